"""Entries of a zip that want a password: ZipCrypto, and AES with 128, 192 or 256 bits as WinZip does it (AE-1, AE-2).

``stream-unzip`` decrypts fast, but it believes what stands before each entry in the stream. It is never shown that:
each entry is given to it alone, behind a header that is made here from the zip's table of contents, which
:mod:`render_tasks.archives.extraction` has checked. So the table alone says what an entry is, as it does for entries
that are not locked; of the archive's own header only its length is used.

A wrong password is told by a check value: one byte with ZipCrypto, two with AES. So one wrong password in 256, or in
65,536, passes the check and gives wrong bytes: while no entry of the archive has come out right, that too is called a
wrong password. The archive itself is as the server has it: its MD5 was checked.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from stream_unzip import (
    IncorrectPasswordError,
    IntegrityError,
    TruncatedDataError,
    UncompressError,
    UnexpectedSignatureError,
    UnzipError,
    stream_unzip,
)

from render_tasks.errors import ArchiveLocked, BadArchive

READ_BYTES = 256 * 1024
#: What comes out at once; more costs memory and saves nothing.
OUT_BYTES = 256 * 1024

_LOCKED, _SIZES_BEHIND, _UTF8 = 0x1, 0x8, 0x800
#: Patched data, strong encryption and a hidden table: other ways of locking.
_UNREADABLE = 0x20 | 0x40 | 0x2000
_AES_METHOD = 99
_AES_EXTRA = 0x9901
_LOCAL_HEADER = struct.Struct("<4sHHHHHLLLHH")
_IN_EXTRA = 0xFFFFFFFF
#: What a wrong password that slipped through looks like.
_WRONG_BYTES = (UncompressError, IntegrityError, TruncatedDataError, UnexpectedSignatureError)
_ZIP64_VERSION = 45


def is_locked(entry: zipfile.ZipInfo) -> bool:
    """Whether the entry wants a password."""
    return bool(entry.flag_bits & _LOCKED)


def method_of(entry: zipfile.ZipInfo) -> int:
    """How the entry is packed, below its lock. Raises BadArchive where it is locked in a way we don't read."""
    if not is_locked(entry):
        return entry.compress_type
    if entry.flag_bits & _UNREADABLE:
        raise BadArchive("the archive is locked in a way we do not read")
    return entry.compress_type if entry.compress_type != _AES_METHOD else struct.unpack_from("<H", _aes(entry), 5)[0]


class LockedEntries:
    """The locked entries of one open zip."""

    def __init__(self, file: BinaryIO, password: str) -> None:
        self._file, self._password = file, password.encode("utf-8", "surrogatepass")
        self._has_opened = False

    def chunks(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        """What the entry holds, verified when the last chunk has come. Raises ArchiveLocked, BadArchive, OSError."""
        if not self._password:
            raise ArchiveLocked("the archive is locked and the server gave no password for it")
        try:
            stream = stream_unzip(self._alone(entry), password=self._password, chunk_size=OUT_BYTES)
            _, _, chunks = next(stream)
            left = entry.file_size
            for chunk in chunks:
                left -= len(chunk)
                if left < 0 and not self._has_opened:  # what a wrong key makes of it may be longer
                    raise ArchiveLocked
                yield chunk
        except IncorrectPasswordError:
            raise ArchiveLocked from None
        except UnzipError as error:
            if isinstance(error, _WRONG_BYTES) and not self._has_opened:
                raise ArchiveLocked from None
            raise BadArchive(f"a locked entry of the archive cannot be read: {type(error).__name__}") from None
        self._has_opened |= entry.file_size > 0

    def _alone(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        """The entry as a stream of its own."""
        is_aes = entry.compress_type == _AES_METHOD
        # With ZipCrypto it chooses the check value, and then sizes follow the data; AES has a check value of its own.
        sizes_behind = 0 if is_aes else entry.flag_bits & _SIZES_BEHIND
        extra = struct.pack("<HHQQ", 1, 16, entry.file_size, entry.compress_size)
        extra += struct.pack("<HH", _AES_EXTRA, 7) + _aes(entry)[:7] if is_aes else b""
        _, _, _, hour, minute, second = entry.date_time
        yield _LOCAL_HEADER.pack(
            b"PK\x03\x04", _ZIP64_VERSION, _LOCKED | sizes_behind, entry.compress_type,
            hour << 11 | minute << 5 | second // 2, 0, entry.CRC, _IN_EXTRA, _IN_EXTRA, 0, len(extra),
        )  # fmt: skip
        yield extra
        yield from self._packed(entry)
        if sizes_behind:
            yield struct.pack("<4sLQQ", b"PK\x07\x08", entry.CRC, entry.compress_size, entry.file_size)
        yield b"PK\x01\x02"

    def _packed(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        """The entry's bytes in the archive, as they are."""
        self._file.seek(entry.header_offset)
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise BadArchive("the archive's table of contents leads to no entry")
        name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
        name = self._file.read(name_bytes).decode("utf-8" if entry.flag_bits & _UTF8 else "cp437", "replace")
        if name != entry.orig_filename:
            raise BadArchive("the archive's table of contents names an entry otherwise than the entry itself")
        self._file.seek(extra_bytes, 1)
        left = entry.compress_size
        while left:
            chunk = self._file.read(min(left, READ_BYTES))
            if not chunk:
                raise BadArchive("the archive ends in the middle of an entry")
            left -= len(chunk)
            yield chunk


def _aes(entry: zipfile.ZipInfo) -> bytes:
    """What the table of contents says of the entry's AES: version, vendor, strength, method."""
    extra = entry.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == _AES_EXTRA and length >= 7 and len(extra) >= 4 + length:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    raise BadArchive("the archive is locked with AES and does not say how")
