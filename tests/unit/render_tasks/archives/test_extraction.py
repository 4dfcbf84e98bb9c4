"""Archives nobody vouches for."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from render_tasks.archives.extraction import Limits, declared_bytes, extract
from render_tasks.errors import AttemptDropped, BadArchive

Make = Callable[..., Path]


def unpack(archive: Path, folder: Path, limits: Limits, stopped: Callable[[], bool] = lambda: False) -> None:
    with archive.open("rb") as file:
        extract(file, folder, limits, stopped)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A zip of (name, content) pairs; a ZipInfo may stand for a name."""

    def make(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in entries:
                archive.writestr(name, content)
        return path

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "content"
    folder.mkdir(parents=True)
    return folder


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    return entry(name, stat.S_IFLNK | 0o777), target.encode()


def nothing_but(folder: Path) -> None:
    """Nothing was written outside the folder."""
    outside = [path for path in folder.parent.parent.rglob("*") if not path.is_relative_to(folder)]
    assert {path.name for path in outside} <= {"deep", "archive.zip"}


def test_files_folders_and_links_arrive_and_every_file_may_be_run(make: Make, folder: Path) -> None:
    archive = make(("rend.exe", b"#!/bin/sh"), ("lib/a/b.so.1", b"so"), ("empty/", b""), link("lib/b.so", "a/b.so.1"))
    unpack(archive, folder, Limits())
    assert os.access(folder / "rend.exe", os.X_OK)
    assert (folder / "lib/b.so").read_bytes() == b"so"
    assert (folder / "empty").is_dir()


def test_paths_of_a_windows_zip_are_folders_too(make: Make, folder: Path) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = "textures\\wood.png"
    unpack(make((info, b"wood")), folder, Limits())
    assert (folder / "textures" / "wood.png").read_bytes() == b"wood"


@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../outside", "/outside", "//outside", "C:/outside", "c:outside", "..\\outside", "\\outside",
     "a/b/../../../outside", "..", "\\\\pc\\share\\outside"],
)  # fmt: skip
def test_a_path_that_leads_out_is_refused(make: Make, folder: Path, name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = name
    with pytest.raises(BadArchive, match="leads out"):
        unpack(make(("good", b""), (info, b"bad")), folder, Limits())
    nothing_but(folder)


@pytest.mark.parametrize(
    "target", ["../outside", "/etc/passwd", "a/../../outside", "C:\\x", "..\\x", "", "x\0y", "y" * 5000]
)
def test_a_link_that_leads_out_is_refused(make: Make, folder: Path, target: str) -> None:
    with pytest.raises(BadArchive):
        unpack(make(link("inside", target)), folder, Limits())


def test_links_that_lead_out_together_are_refused(make: Make, folder: Path) -> None:
    archive = make(("a/b/file", b""), link("a/b/c", "../.."), link("a/b/d", "c/../outside"))
    with pytest.raises(BadArchive):
        unpack(archive, folder, Limits())
    archive = make(link("loop", "pool"), link("pool", "loop"))
    with pytest.raises(BadArchive):
        unpack(archive, folder, Limits())


def test_nothing_is_written_through_a_link(make: Make, folder: Path) -> None:
    archive = make(("sub/inner/file", b""), link("door", "sub"), ("door/inner", b"through"))
    with pytest.raises(BadArchive):
        unpack(archive, folder, Limits())
    assert not (folder / "sub" / "inner").is_file()


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_device_or_pipe_is_refused(make: Make, folder: Path, kind: int) -> None:
    with pytest.raises(BadArchive, match="no file"):
        unpack(make((entry("pipe", kind | 0o644), b"")), folder, Limits())


def test_a_bomb_is_refused_by_what_it_claims_before_anything_is_written(make: Make, folder: Path) -> None:
    with pytest.raises(BadArchive, match="claims to hold 5000000 bytes, more than 1000000"):
        unpack(make(("zeros", bytes(5_000_000))), folder, Limits(bytes=1_000_000))
    assert not any(folder.iterdir())


@pytest.mark.parametrize("claimed", [10, 4_999_999])
def test_a_claim_that_is_too_small_ends_where_it_is_passed(make: Make, folder: Path, claimed: int) -> None:
    path = make(("zeros", bytes(5_000_000)))
    raw = path.read_bytes().replace(struct.pack("<L", 5_000_000), struct.pack("<L", claimed))
    path.write_bytes(raw)
    with pytest.raises(BadArchive):
        unpack(path, folder, Limits(bytes=5_000_000))
    assert (folder / "zeros").stat().st_size <= claimed


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bzip2_and_lzma_are_refused_before_anything_is_written(make: Make, folder: Path, method: int) -> None:
    with pytest.raises(BadArchive, match="method that is not read"):
        unpack(make(("good", b"x"), ("zeros", bytes(50_000_000)), method=method), folder, Limits())
    assert not any(folder.iterdir())


def test_a_path_of_1600_folders_is_refused(make: Make, folder: Path) -> None:
    archive = make(("d/" * 1600 + "leaf", b""))
    assert archive.stat().st_size < 16_000
    with pytest.raises(BadArchive, match="more than 64 folders in each other"):
        unpack(archive, folder, Limits())
    assert not any(folder.iterdir())


def test_the_folders_that_stand_only_in_paths_count(make: Make, folder: Path) -> None:
    archive = make(*((f"{number}/a/b/c/leaf", b"") for number in range(100)))
    unpack(archive, folder, Limits(entries=500))
    with pytest.raises(BadArchive, match="more than 499 files and folders"):
        unpack(archive, folder, Limits(entries=499))


def test_an_absurd_number_of_entries_is_refused_before_the_table_is_read(make: Make, folder: Path) -> None:
    path = make(*((f"{number}", b"") for number in range(200)))
    with pytest.raises(BadArchive, match="200 entries"):
        unpack(path, folder, Limits(entries=199))
    with pytest.raises(BadArchive, match="entries in a table"):
        unpack(path, folder, Limits(directory_bytes=100))
    assert not any(folder.iterdir())


def test_a_locked_archive_without_a_password_is_refused(make: Make, folder: Path) -> None:
    path = make(("secret", b"x"))
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    path.write_bytes(raw)
    with pytest.raises(BadArchive, match="locked and the server gave no password"):
        unpack(path, folder, Limits())


def test_a_method_of_unbounded_memory_is_refused(make: Make, folder: Path) -> None:
    with pytest.raises(BadArchive, match="method"):
        unpack(make(("a", b"b"), method=zipfile.ZIP_LZMA), folder, Limits())


def test_bad_time_stamps_do_not_matter(make: Make, folder: Path) -> None:
    path = make(("old", b"1"))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 12 : raw.index(b"PK\x01\x02") + 16] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    unpack(path, folder, Limits())
    assert (folder / "old").read_bytes() == b"1"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_name_ends_as_the_last_one(make: Make, folder: Path) -> None:
    unpack(make(("a", b"first, longer"), ("A", b"other"), ("a", b"last")), folder, Limits())
    assert (folder / "a").read_bytes() in (b"last", b"other")


def test_a_name_that_is_file_and_folder_is_refused(make: Make, folder: Path) -> None:
    with pytest.raises(BadArchive):
        unpack(make(("a", b"file"), ("a/b", b"below")), folder, Limits())


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"<html>502</html>" * 100, b"PK\x05\x06" + bytes(18), b"PK\x05\x06" + b"\xff" * 18]
)
def test_what_is_no_zip_is_refused(tmp_path: Path, folder: Path, content: bytes) -> None:
    path = tmp_path / "archive.zip"
    path.write_bytes(content)
    if content == b"PK\x05\x06" + bytes(18):  # an empty zip is one
        unpack(path, folder, Limits())
        return
    with pytest.raises(BadArchive):
        unpack(path, folder, Limits())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    base = tmp_path_factory.mktemp("damaged")
    path, folder = base / "archive.zip", base / "deep" / "content"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", b"hello " * 50)
        archive.writestr(*link("a/c", "b.txt"))
        archive.writestr("d", b"x")
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(len(raw) // 2, len(raw)))])
    with contextlib.suppress(BadArchive):
        unpack(path, folder, Limits(bytes=100_000))
    nothing_but(folder)


def test_a_stop_is_heard_between_two_pieces(make: Make, folder: Path) -> None:
    with pytest.raises(AttemptDropped):
        unpack(make(("big", bytes(3_000_000))), folder, Limits(), stopped=lambda: True)


def test_the_declared_size_is_the_sum_of_the_table(make: Make) -> None:
    with make(("a", bytes(1000)), ("b", bytes(24))).open("rb") as archive:
        assert declared_bytes(archive, Limits()) == 1024
