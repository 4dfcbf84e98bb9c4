"""Archives nobody vouches for."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from render_tasks.archives.extraction import Limits, declared_bytes, extract
from render_tasks.errors import AttemptDropped, BadArchive

Make = Callable[..., Path]


def unpack(archive: Path, content_folder: Path, limits: Limits, stopped: Callable[[], bool] = lambda: False) -> None:
    with archive.open("rb") as file:
        extract(file, content_folder, limits, stopped)


@pytest.fixture
def make_zip(tmp_path: Path) -> Make:
    """A zip of (name, content) pairs; a ZipInfo may stand for a name."""

    def make_zip(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
        path = tmp_path / "archive.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in entries:
                archive.writestr(name, content)
        return path

    return make_zip


@pytest.fixture
def content_folder(tmp_path: Path) -> Path:
    content_folder = tmp_path / "deep" / "content"
    content_folder.mkdir(parents=True)
    return content_folder


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    return entry(name, stat.S_IFLNK | 0o777), target.encode()


def assert_nothing_outside(content_folder: Path) -> None:
    """Nothing was written outside the folder."""
    outside = [path for path in content_folder.parent.parent.rglob("*") if not path.is_relative_to(content_folder)]
    assert {path.name for path in outside} <= {"deep", "archive.zip"}


def test_files_folders_and_links_arrive_and_every_file_may_be_run(make_zip: Make, content_folder: Path) -> None:
    archive = make_zip(
        ("rend.exe", b"#!/bin/sh"), ("lib/a/b.so.1", b"so"), ("empty/", b""), link("lib/b.so", "a/b.so.1")
    )
    unpack(archive, content_folder, Limits())
    assert os.access(content_folder / "rend.exe", os.X_OK)
    assert (content_folder / "lib/b.so").read_bytes() == b"so"
    assert (content_folder / "empty").is_dir()


def test_paths_of_a_windows_zip_are_folders_too(make_zip: Make, content_folder: Path) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = "textures\\wood.png"
    unpack(make_zip((info, b"wood")), content_folder, Limits())
    assert (content_folder / "textures" / "wood.png").read_bytes() == b"wood"


@pytest.mark.parametrize(
    "name",
    ["../outside", "a/../../outside", "/outside", "//outside", "C:/outside", "c:outside", "..\\outside", "\\outside",
     "a/b/../../../outside", "..", "\\\\pc\\share\\outside"],
)  # fmt: skip
def test_a_path_that_leads_out_is_refused(make_zip: Make, content_folder: Path, name: str) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = name
    with pytest.raises(BadArchive, match="leads out"):
        unpack(make_zip(("good", b""), (info, b"bad")), content_folder, Limits())
    assert_nothing_outside(content_folder)


@pytest.mark.parametrize(
    "target", ["../outside", "/etc/passwd", "a/../../outside", "C:\\x", "..\\x", "", "x\0y", "y" * 5000]
)
def test_a_link_that_leads_out_is_refused(make_zip: Make, content_folder: Path, target: str) -> None:
    with pytest.raises(BadArchive):
        unpack(make_zip(link("inside", target)), content_folder, Limits())


def test_links_that_lead_out_together_are_refused(make_zip: Make, content_folder: Path) -> None:
    archive = make_zip(("a/b/file", b""), link("a/b/c", "../.."), link("a/b/d", "c/../outside"))
    with pytest.raises(BadArchive):
        unpack(archive, content_folder, Limits())
    archive = make_zip(link("loop", "pool"), link("pool", "loop"))
    with pytest.raises(BadArchive):
        unpack(archive, content_folder, Limits())


def test_nothing_is_written_through_a_link(make_zip: Make, content_folder: Path) -> None:
    archive = make_zip(("sub/inner/file", b""), link("door", "sub"), ("door/inner", b"through"))
    with pytest.raises(BadArchive):
        unpack(archive, content_folder, Limits())
    assert not (content_folder / "sub" / "inner").is_file()


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_device_or_pipe_is_refused(make_zip: Make, content_folder: Path, kind: int) -> None:
    with pytest.raises(BadArchive, match="no file"):
        unpack(make_zip((entry("pipe", kind | 0o644), b"")), content_folder, Limits())


def test_a_bomb_is_refused_by_what_it_claims_before_anything_is_written(make_zip: Make, content_folder: Path) -> None:
    with pytest.raises(BadArchive, match="claims to hold 5000000 bytes, more than 1000000"):
        unpack(make_zip(("zeros", bytes(5_000_000))), content_folder, Limits(bytes=1_000_000))
    assert not any(content_folder.iterdir())


@pytest.mark.parametrize("claimed", [10, 4_999_999])
def test_a_claim_that_is_too_small_ends_where_it_is_passed(make_zip: Make, content_folder: Path, claimed: int) -> None:
    path = make_zip(("zeros", bytes(5_000_000)))
    raw = path.read_bytes().replace(struct.pack("<L", 5_000_000), struct.pack("<L", claimed))
    path.write_bytes(raw)
    with pytest.raises(BadArchive):
        unpack(path, content_folder, Limits(bytes=5_000_000))
    assert (content_folder / "zeros").stat().st_size <= claimed


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bzip2_and_lzma_are_refused_before_anything_is_written(
    make_zip: Make, content_folder: Path, method: int
) -> None:
    with pytest.raises(BadArchive, match="method that is not read"):
        unpack(make_zip(("good", b"x"), ("zeros", bytes(50_000_000)), method=method), content_folder, Limits())
    assert not any(content_folder.iterdir())


def test_a_path_of_1600_folders_is_refused(make_zip: Make, content_folder: Path) -> None:
    archive = make_zip(("d/" * 1600 + "leaf", b""))
    assert archive.stat().st_size < 16_000
    with pytest.raises(BadArchive, match="more than 64 folders in each other"):
        unpack(archive, content_folder, Limits())
    assert not any(content_folder.iterdir())


def test_the_folders_that_stand_only_in_paths_count(make_zip: Make, content_folder: Path) -> None:
    archive = make_zip(*((f"{number}/a/b/c/leaf", b"") for number in range(100)))
    unpack(archive, content_folder, Limits(entries=500))
    with pytest.raises(BadArchive, match="more than 499 files and folders"):
        unpack(archive, content_folder, Limits(entries=499))


def test_an_absurd_number_of_entries_is_refused_before_the_table_is_read(make_zip: Make, content_folder: Path) -> None:
    path = make_zip(*((f"{number}", b"") for number in range(200)))
    with pytest.raises(BadArchive, match="200 entries"):
        unpack(path, content_folder, Limits(entries=199))
    with pytest.raises(BadArchive, match="entries in a table"):
        unpack(path, content_folder, Limits(directory_bytes=100))
    assert not any(content_folder.iterdir())


def test_a_locked_archive_without_a_password_is_refused(make_zip: Make, content_folder: Path) -> None:
    path = make_zip(("secret", b"x"))
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    path.write_bytes(raw)
    with pytest.raises(BadArchive, match="locked and the server gave no password"):
        unpack(path, content_folder, Limits())


def test_a_method_of_unbounded_memory_is_refused(make_zip: Make, content_folder: Path) -> None:
    with pytest.raises(BadArchive, match="method"):
        unpack(make_zip(("a", b"b"), method=zipfile.ZIP_LZMA), content_folder, Limits())


def test_bad_time_stamps_do_not_matter(make_zip: Make, content_folder: Path) -> None:
    path = make_zip(("old", b"1"))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 12 : raw.index(b"PK\x01\x02") + 16] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    unpack(path, content_folder, Limits())
    assert (content_folder / "old").read_bytes() == b"1"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_name_ends_as_the_last_one(make_zip: Make, content_folder: Path) -> None:
    unpack(make_zip(("a", b"first, longer"), ("A", b"other"), ("a", b"last")), content_folder, Limits())
    assert (content_folder / "a").read_bytes() in (b"last", b"other")


def test_a_name_that_is_file_and_folder_is_refused(make_zip: Make, content_folder: Path) -> None:
    with pytest.raises(BadArchive):
        unpack(make_zip(("a", b"file"), ("a/b", b"below")), content_folder, Limits())


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"<html>502</html>" * 100, b"PK\x05\x06" + bytes(18), b"PK\x05\x06" + b"\xff" * 18]
)
def test_what_is_no_zip_is_refused(tmp_path: Path, content_folder: Path, content: bytes) -> None:
    path = tmp_path / "archive.zip"
    path.write_bytes(content)
    if content == b"PK\x05\x06" + bytes(18):  # an empty zip is one
        unpack(path, content_folder, Limits())
        return
    with pytest.raises(BadArchive):
        unpack(path, content_folder, Limits())


def test_a_stop_is_heard_between_two_pieces(make_zip: Make, content_folder: Path) -> None:
    with pytest.raises(AttemptDropped):
        unpack(make_zip(("big", bytes(3_000_000))), content_folder, Limits(), stopped=lambda: True)


def test_the_declared_size_is_the_sum_of_the_table(make_zip: Make) -> None:
    with make_zip(("a", bytes(1000)), ("b", bytes(24))).open("rb") as archive:
        assert declared_bytes(archive, Limits()) == 1024
