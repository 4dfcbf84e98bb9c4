"""What a zip that comes from somebody else may be, looked at before anything of it is unpacked.

Only two methods are read, *stored* and *deflate*: Python gives their content out piece by piece. Of bzip2 and LZMA it
unpacks a whole piece at once, and 1,200 bytes become 2.9 GB in memory.
"""

from __future__ import annotations

import os
import struct
import zipfile
from typing import BinaryIO

#: Compression methods that are read.
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
#: Folders in each other; a Blender with its add-ons has 13.
MAX_DEPTH = 64
#: Of a path, in UTF-8.
MAX_PATH_BYTES = 1024
#: More than any honest archive holds.
MAX_ENTRIES = 300_000
#: Of the table of contents, which Python reads into memory at once.
MAX_TABLE_BYTES = 100 * 1024**2
#: The end record of a zip, and the longest comment after it.
_END = 22
_TAIL_BYTES = _END + 65535
#: The end record of a large zip, and what says where it lies.
_END64, _LOCATOR64 = 56, 20


def trouble_with_table(file: BinaryIO, *, entries: int = MAX_ENTRIES, table_bytes: int = MAX_TABLE_BYTES) -> str:
    """Why the zip's table of contents must not be read, for a person; empty: it may be.

    Reads the end record alone, so that an absurd table never gets into memory. Raises OSError.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES - _LOCATOR64 - _END64))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END:
        return "it is no zip"
    claims = [struct.unpack_from("<HL", tail, at + 10)]
    locator = tail[max(0, at - _LOCATOR64) : at]
    if locator[:4] == b"PK\x06\x07":  # the true numbers are elsewhere
        claims += _large_claims(file, tail[: at - _LOCATOR64], struct.unpack_from("<Q", locator, 8)[0], size)
    for claimed_entries, claimed_bytes in claims:
        if claimed_entries > entries or claimed_bytes > table_bytes:
            return f"it claims {claimed_entries} entries in a table of {claimed_bytes} bytes"
    return ""


def _large_claims(file: BinaryIO, before: bytes, place: int, size: int) -> list[tuple[int, int]]:
    """Entries and bytes by the record that the locator names, and by the one before it, which Python may read."""
    named = b""
    if place < size:
        file.seek(place)
        named = file.read(_END64)
    records = [record.ljust(_END64, b"\0") for record in (named, before[-_END64:])]
    return [struct.unpack_from("<QQ", record, 32) for record in records]


def trouble_with_method(method: int) -> str:
    """Why an entry that is packed by this method is not read; empty: it is."""
    return (
        "" if method in METHODS else f"it is packed by a method that is not read: {_METHOD_NAMES.get(method, method)}"
    )


def trouble_with_path(path: str) -> str:
    """Why a path inside a zip, with ``/`` between folders, is longer than any honest one; empty: it is not."""
    if path.count("/") > MAX_DEPTH:
        return f"it holds more than {MAX_DEPTH} folders in each other"
    if len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return f"it holds a path of more than {MAX_PATH_BYTES} bytes"
    return ""


_METHOD_NAMES = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA", 9: "deflate64", 93: "Zstandard", 95: "XZ"}
