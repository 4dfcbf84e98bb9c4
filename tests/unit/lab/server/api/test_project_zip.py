"""Project zips from strangers."""

import stat
import zipfile

import pytest

from lab.errors import BadProjectZip
from lab.server.api.project_zip import check_project_zip
from lab.server.store.renderers import BINARY_PATHS, launcher


def write(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    return path


def link(name):
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def test_a_plain_project_is_taken(tmp_path):
    path = write(tmp_path / "a.zip", [("shot/a.blend", b"x"), ("shot/textures/wool.png", b"y"), ("empty/", b"")])
    check_project_zip(path, "shot/a.blend")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, "leaves its folder") for name in ["../a.png", "/etc/passwd", "a/../../b", "C:/a.png", "..", "a\x00b"]),
        ("a\\..\\b.png", "leaves its folder"),
        ("a\\b.png", "holds a backslash"),
        ("x" * 2000, "is longer than 1000 characters"),
        ("a\nb.png", r"holds the character U\+000A"),
        ("a\u2028b.png", r"holds the character U\+2028 \(line separator\)"),
    ],
)
def test_an_entry_whose_name_cannot_be_kept_is_refused_with_the_reason(tmp_path, name, why):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.blend", b"x")
        entry = zipfile.ZipInfo("placeholder")
        entry.filename = name
        archive.writestr(entry, b"y")
    if "\x00" in name:  # Python cuts such a name itself when it reads it
        check_project_zip(path, "a.blend")
        return
    with pytest.raises(BadProjectZip, match=why):
        check_project_zip(path, "a.blend")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_is_packed_with_bzip2_or_lzma_is_refused(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.blend", bytes(1_000_000))
    with pytest.raises(BadProjectZip, match="method that is not read"):
        check_project_zip(path, "a.blend")


def test_folders_that_are_too_deep_are_refused(tmp_path):
    path = write(tmp_path / "a.zip", [("a.blend", b"x"), ("d/" * 100 + "leaf", b"")])
    with pytest.raises(BadProjectZip, match="more than 64 folders in each other"):
        check_project_zip(path, "a.blend")


@pytest.mark.parametrize(
    "name",
    ["wood: dark.png", "a/b?.png", "trailing.", "木目.png", "\u200dzero.png", "a\xa0b.png", "-x", "50%#1.png", "CON"],
)
def test_every_other_name_is_taken(tmp_path, name):
    check_project_zip(write(tmp_path / "a.zip", [(f"{name}.blend", b"x"), (name, b"y")]), f"{name}.blend")


def test_links_and_lost_scenes_and_other_files_are_refused(tmp_path):
    with pytest.raises(BadProjectZip, match="link"):
        check_project_zip(write(tmp_path / "a.zip", [("a.blend", b"x"), (link("b"), b"/etc/passwd")]), "a.blend")
    with pytest.raises(BadProjectZip, match="does not hold the scene"):
        check_project_zip(write(tmp_path / "b.zip", [("b.blend", b"x")]), "a.blend")
    (tmp_path / "c.zip").write_bytes(b"no zip at all")
    with pytest.raises(BadProjectZip, match="no usable zip"):
        check_project_zip(tmp_path / "c.zip", "a.blend")


def test_a_zip_bomb_is_refused_before_anything_is_unpacked(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.blend", b"x")
        with archive.open("zeros", "w", force_zip64=True) as zeros:
            for _ in range(300):
                zeros.write(bytes(1024 * 1024))
    with pytest.raises(BadProjectZip, match="would unpack to"):
        check_project_zip(path, "a.blend")


def test_a_damaged_zip_is_refused(tmp_path):
    path = write(tmp_path / "a.zip", [("a.blend", bytes(range(256)) * 40)])
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BadProjectZip):
        check_project_zip(path, "a.blend")


@pytest.mark.parametrize("platform", ["linux/64bit", "mac/64bit"])
def test_a_launcher_is_the_same_bytes_every_time_and_can_be_executed(tmp_path, platform):
    assert launcher(platform) == launcher(platform)
    path = tmp_path / "launcher.zip"
    path.write_bytes(launcher(platform))
    with zipfile.ZipFile(path) as archive:
        [entry] = archive.infolist()
        assert entry.filename == BINARY_PATHS[platform.partition("/")[0]]
        assert entry.external_attr >> 16 & 0o777 == 0o755
        assert archive.read(entry).startswith(b"#!/bin/sh\n")
