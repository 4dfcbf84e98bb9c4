"""Zips that are meant to hurt whoever looks into them."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from sheepfold.archives.zips import MAX_DEPTH, METHODS, trouble_with_method, trouble_with_path, trouble_with_table


def zipped(count: int = 3, comment: bytes = b"") -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(count):
            archive.writestr(str(number), b"")
        archive.comment = comment
    return buffer


def test_an_honest_table_is_read() -> None:
    assert trouble_with_table(zipped()) == ""
    assert trouble_with_table(zipped(comment=b"x" * 65535)) == ""


def test_too_many_entries_or_too_long_a_table_are_told_with_their_figures() -> None:
    assert trouble_with_table(zipped(), entries=2).startswith("it claims 3 entries in a table of ")
    assert "entries in a table" in trouble_with_table(zipped(), table_bytes=10)


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all" * 10_000, b"PK\x05\x06 cut off"])
def test_what_is_no_zip_is_told(content: bytes) -> None:
    assert trouble_with_table(io.BytesIO(content)) == "it is no zip"


def zip64_table(entries: int, place: int, filler: bytes = b"") -> io.BytesIO:
    """A zip whose true numbers are in a record of its own; the locator says that it lies at ``place``."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, 10, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, place, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 10, 0, 0)
    return io.BytesIO(filler + record + locator + end)


def test_the_record_of_a_large_zip_counts_wherever_python_may_read_it() -> None:
    honest = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 10, 0)
    assert trouble_with_table(zip64_table(1, 0)) == ""
    assert "it claims 900000 entries" in trouble_with_table(zip64_table(900_000, 0))
    assert "it claims 900000 entries" in trouble_with_table(zip64_table(900_000, 0, filler=honest)), "the locator lies"
    assert "it claims 900000 entries" in trouble_with_table(zip64_table(900_000, 2**64 - 1))


def test_only_what_python_unpacks_piece_by_piece_is_read() -> None:
    assert not any(trouble_with_method(method) for method in METHODS)
    assert trouble_with_method(zipfile.ZIP_BZIP2).endswith("not read: bzip2")
    assert trouble_with_method(zipfile.ZIP_LZMA).endswith("not read: LZMA")
    assert trouble_with_method(77).endswith("not read: 77")


def test_a_path_has_so_many_folders_and_bytes() -> None:
    assert trouble_with_path("/".join(["d"] * (MAX_DEPTH + 1))) == ""
    assert "more than 64 folders" in trouble_with_path("/".join(["d"] * (MAX_DEPTH + 2)))
    assert "1024 bytes" in trouble_with_path("木" * 342)
