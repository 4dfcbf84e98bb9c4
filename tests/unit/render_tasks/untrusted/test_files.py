"""Real links, pipes and second names in place of what is to be read or taken."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from render_tasks.errors import UnsafeFile
from render_tasks.untrusted.files import names_in, open_file, read_start, take_file


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("farm token")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "attempt"
    (path / "out").mkdir(parents=True)
    return path


def test_a_plain_file_is_read(folder: Path) -> None:
    (folder / "out" / "a").write_bytes(b"picture")
    assert open_file(folder, "out", "a").read() == b"picture"
    assert read_start(folder, "out", "a", most_bytes=3) == b"pic"
    assert names_in(folder, "out") == ["a"]


@pytest.mark.parametrize("kind", ["link", "pipe", "second name", "folder", "socket", "dead link"])
def test_what_is_no_plain_file_is_neither_opened_nor_taken(folder: Path, secret_file: Path, kind: str) -> None:
    place = folder / "out" / "a"
    if kind == "link":
        place.symlink_to(secret_file)
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "second name":
        place.hardlink_to(secret_file)
    elif kind == "folder":
        place.mkdir()
    elif kind == "dead link":
        place.symlink_to("/nowhere")
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(place))
    with pytest.raises(UnsafeFile):
        open_file(folder, "out", "a")
    with pytest.raises(UnsafeFile):
        take_file(folder, "out", "a", to=folder / "taken")
    assert not os.path.lexists(folder / "taken")
    assert secret_file.read_text() == "farm token"


@pytest.mark.parametrize("which", ["attempt", "attempt/out"])
def test_no_folder_on_the_way_may_be_a_link(folder: Path, tmp_path: Path, which: str) -> None:
    pictures = tmp_path / "Pictures"
    (pictures / "out").mkdir(parents=True)
    for owned in (pictures / "frame_0001.png", pictures / "out" / "frame_0001.png"):
        owned.write_bytes(b"the owner's")
    place = tmp_path / which
    place.rename(tmp_path / "moved")
    place.symlink_to(pictures)
    with pytest.raises(UnsafeFile):
        take_file(folder, "out", "frame_0001.png", to=tmp_path / "taken")
    with pytest.raises(UnsafeFile):
        names_in(folder, "out")
    assert (pictures / "frame_0001.png").exists()
    assert (pictures / "out" / "frame_0001.png").exists()


@pytest.mark.parametrize("name", ["..", ".", "", "../secret", "a/b"])
def test_a_name_is_one_name(folder: Path, secret_file: Path, name: str) -> None:
    with pytest.raises(UnsafeFile):
        open_file(folder, name)


def test_a_file_is_not_larger_than_it_may_be(folder: Path) -> None:
    (folder / "a").write_bytes(b"12345")
    with pytest.raises(UnsafeFile, match="5 bytes"):
        open_file(folder, "a", most_bytes=4)


def test_a_taken_file_is_moved_and_gone_where_it_was(folder: Path, tmp_path: Path) -> None:
    (folder / "out" / "a").write_bytes(b"picture")
    inode = (folder / "out" / "a").stat().st_ino
    take_file(folder, "out", "a", to=tmp_path / "taken")
    assert (tmp_path / "taken").stat().st_ino == inode
    assert names_in(folder, "out") == []


def test_a_link_that_is_put_there_after_the_look_is_not_what_is_taken(
    folder: Path, secret_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder / "out" / "a"
    place.write_bytes(b"picture")
    rename = os.rename

    def exchange_first(source: str, to: Path, **how: int) -> None:
        place.unlink()
        place.symlink_to(secret_file)
        rename(source, to, **how)

    monkeypatch.setattr("render_tasks.untrusted.files.os.rename", exchange_first)
    take_file(folder, "out", "a", to=tmp_path / "taken")
    assert not (tmp_path / "taken").is_symlink()
    assert (tmp_path / "taken").read_bytes() == b"picture"
    assert secret_file.read_text() == "farm token"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="a second file system is needed")
def test_a_file_on_another_disk_is_copied(folder: Path) -> None:
    (folder / "out" / "a").write_bytes(b"picture")
    to = Path("/dev/shm") / f"sheepfold-test-{os.getpid()}"
    try:
        take_file(folder, "out", "a", to=to)
        assert to.read_bytes() == b"picture"
    finally:
        to.unlink(missing_ok=True)
