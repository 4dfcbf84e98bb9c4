"""Renderer archives that start the PC's own Blender are told from those that bring one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from lab.server.store.renderers import LAUNCHED, LAUNCHER, launcher
from sheepfold.archives.launchers import MAX_SCRIPT_BYTES, is_launcher, is_launcher_archive

SCRIPT = b'#!/bin/sh\nexec "${SHEEPFOLD_BLENDER:-blender}" "$@"\n'


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    path.write_bytes(target.getvalue())
    return path


@pytest.mark.parametrize("platform", LAUNCHED)
def test_what_our_own_server_hands_out_is_one(tmp_path: Path, platform: str) -> None:
    path = tmp_path / "renderer.zip"
    path.write_bytes(launcher(platform))
    assert is_launcher_archive(path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"rend.exe": SCRIPT}, True),
        ({"Blender/": b"", "Blender/rend.exe": SCRIPT}, True),
        ({"rend.exe": b"\x7fELF" + SCRIPT}, False),
        ({"rend.exe": b"#!/bin/sh\nexec ./blender\n", "blender": b"\x7fELF"}, False),
        # It may start the PC's Blender, but there is more to it.
        ({"rend.exe": SCRIPT, "pictures.bin": b"x"}, False),
        ({"rend.exe": SCRIPT + b"#" * MAX_SCRIPT_BYTES}, False),
        ({}, False),
    ],
)
def test_an_archive_is_one_when_it_holds_nothing_but_the_script(
    tmp_path: Path, files: dict[str, bytes], expected: bool
) -> None:
    assert is_launcher_archive(write_zip(tmp_path / "renderer.zip", files)) is expected


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    assert not is_launcher_archive(tmp_path / "broken.zip")
    assert not is_launcher_archive(tmp_path / "missing.zip")
    assert not is_launcher(tmp_path / "missing")


def test_a_script_that_is_packed_with_bzip2_is_not_unpacked(tmp_path: Path) -> None:
    assert is_launcher_archive(write_zip(tmp_path / "a.zip", {"rend.exe": SCRIPT}, zipfile.ZIP_DEFLATED))
    assert not is_launcher_archive(write_zip(tmp_path / "b.zip", {"rend.exe": SCRIPT}, zipfile.ZIP_BZIP2))


def test_an_unpacked_one_is_known_by_its_script(tmp_path: Path) -> None:
    (tmp_path / "rend.exe").write_bytes(LAUNCHER)
    assert is_launcher(tmp_path / "rend.exe")
    (tmp_path / "rend.exe").write_bytes(b"\x7fELF SHEEPFOLD_BLENDER")
    assert not is_launcher(tmp_path / "rend.exe")


def test_an_unpacked_script_with_a_renderer_beside_it_is_none(tmp_path: Path) -> None:
    (tmp_path / "rend.exe").write_bytes(LAUNCHER)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "blender").write_bytes(b"\x7fELF")
    assert not is_launcher(tmp_path / "rend.exe")
