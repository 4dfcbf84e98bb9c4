"""Zips of strangers: unpacked inside their folder and within their limits, or :class:`BadArchive`."""

from __future__ import annotations

import contextlib
import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render_tasks.archives.extraction import Limits, declared_bytes, extract
from render_tasks.errors import BadArchive
from render_tasks.untrusted.removal import remove
from sheepfold.archives.zips import trouble_with_table
from tests.support.fuzzing import damaged, fuzzed
from tests.support.wire.locked_zips import locked_with_aes, locked_with_zipcrypto

LIMITS = Limits(bytes=200_000, entries=200)
NAMES = st.sampled_from([
    "a", "a/b", "a/b/c", "a/", "A", "../x", "/x", "a/../../x", "a\\b", "..\\x", "C:\\x", "a//b", ".", "", "a/./b",
    "x" * 300, "d/" * 70 + "x", "nul\0x", "\u202ex", "é", "link/x", "link",
]) | st.text(max_size=12)  # fmt: skip
MODES = st.sampled_from([
    stat.S_IFREG | 0o644, stat.S_IFREG, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644,
    stat.S_IFCHR | 0o644, stat.S_IFSOCK | 0o644, 0,
])  # fmt: skip
CONTENTS = st.binary(max_size=60) | st.sampled_from([b"../../x", b"/etc", b"..", b"a", b".", b"link", bytes(300_000)])
METHODS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])


FILES = {"a/b.blend": b"scene" * 30, "c": b""}
LOCKED_ZIPS = [
    locked_with_aes(FILES, "secret"),
    locked_with_aes(FILES, "secret", bits=128, version=1),
    locked_with_zipcrypto(FILES, "secret"),
    locked_with_zipcrypto(FILES, "secret", sizes_behind=True),
]


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    """A zip that a packer made: paths, links, devices, bombs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in draw(st.lists(NAMES, max_size=6)):
            entry = zipfile.ZipInfo("x")
            entry.filename = entry.orig_filename = name
            entry.create_system, entry.external_attr = draw(st.sampled_from([0, 3])), draw(MODES) << 16
            entry.compress_type = draw(METHODS)
            with contextlib.suppress(UnicodeEncodeError):
                archive.writestr(entry, draw(CONTENTS))
    return buffer.getvalue()


def everything_below(folder: Path) -> list[Path]:
    """Links are not followed."""
    found: list[Path] = []
    for path in folder.iterdir():
        found.append(path)
        if path.is_dir() and not path.is_symlink():
            found += everything_below(path)
    return found


@pytest.mark.filterwarnings("ignore:Duplicate name")
@fuzzed()
@given(
    raw=zips() | zips().flatmap(damaged) | st.sampled_from(LOCKED_ZIPS).flatmap(damaged),
    password=st.sampled_from(["", "secret"]),
)
def test_a_zip_is_unpacked_inside_its_folder_and_its_limits_or_refused(
    tmp_path: Path, raw: bytes, password: str
) -> None:
    outside = tmp_path / "outside"
    folder = outside / "deep" / "content"
    folder.mkdir(parents=True)
    try:
        trouble_with_table(io.BytesIO(raw))
        with contextlib.suppress(BadArchive):
            assert declared_bytes(io.BytesIO(raw), LIMITS) <= LIMITS.bytes
        with contextlib.suppress(BadArchive):
            extract(io.BytesIO(raw), folder, LIMITS, password=password)
        assert [path.name for path in outside.iterdir()] == ["deep"]
        assert [path.name for path in (outside / "deep").iterdir()] == ["content"]
        found = everything_below(folder)
        assert sum(path.lstat().st_size for path in found if path.is_file() and not path.is_symlink()) <= LIMITS.bytes
        assert len(found) <= LIMITS.entries
        for path in found:
            assert path.resolve().is_relative_to(folder.resolve())
            assert path.is_symlink() or path.is_dir() or path.is_file()
    finally:
        remove(outside)
