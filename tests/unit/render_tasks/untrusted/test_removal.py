"""Trees that are meant not to be deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from render_tasks.untrusted.removal import bytes_in, empty_folder, real_folder, remove, set_aside

DEEP = 3000


def make_nested_folders(folder: Path, depth: int = DEEP) -> None:
    """So many folders in each other, by descriptor: the path is longer than any system call takes."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def test_thousands_of_folders_in_each_other_go(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "beside").mkdir(parents=True)
    make_nested_folders(tree)
    make_nested_folders(tree / "beside", 1200)
    assert bytes_in(tree) >= 0
    assert remove(tree)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="a mode stops nobody who is root")
def test_folders_of_mode_zero_go(tmp_path: Path) -> None:
    shut_in_mode_zero(tmp_path / "tree")
    assert remove(tmp_path / "tree")


def shut_in_mode_zero(tree: Path) -> None:
    inner = tree / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for path in (inner / "file", inner, tree / "a", tree):
        path.chmod(0)


_AS_NOBODY = """
import os, sys
from pathlib import Path
from render_tasks.untrusted.removal import remove
os.setgid(65534); os.setuid(65534)
sys.exit(0 if remove(Path(sys.argv[1])) else 1)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody whom a mode stops")
def test_folders_of_mode_zero_go_for_a_user_whom_modes_stop(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents[:3]):
        path.chmod(0o755)
    home = tmp_path / "home"
    shut_in_mode_zero(home / "tree")
    for path in (home, home / "tree", home / "tree" / "a", home / "tree" / "a" / "b", home / "tree/a/b/file"):
        os.chown(path, 65534, 65534)
    subprocess.run([sys.executable, "-c", _AS_NOBODY, str(home / "tree")], check=True, timeout=60)
    assert not list(home.iterdir())


def test_what_a_link_in_the_tree_leads_to_stays(tmp_path: Path) -> None:
    pictures = tmp_path / "Pictures"
    pictures.mkdir(mode=0o755)
    (pictures / "mine.png").touch()
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "link").symlink_to(pictures)
    (tree / "a" / "link").symlink_to(pictures)
    os.mkfifo(tree / "a" / "pipe")
    assert remove(tree)
    (tmp_path / "tree").symlink_to(pictures)
    assert remove(tmp_path / "tree")
    assert (pictures / "mine.png").exists()


def test_nothing_there_is_nothing_left(tmp_path: Path) -> None:
    assert remove(tmp_path / "nowhere")


def test_what_cannot_be_removed_is_set_aside_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "scratch"
    (place / "stuck").mkdir(parents=True)
    monkeypatch.setattr("render_tasks.untrusted.removal.remove", lambda _path: False)
    empty_folder(place)
    assert list(place.iterdir()) == []
    (aside,) = tmp_path.glob("scratch.rubbish-*")
    assert (aside / "stuck").is_dir()
    assert str(aside) in caplog.text


def test_a_link_where_a_folder_of_ours_belongs_is_set_aside(tmp_path: Path) -> None:
    pictures = tmp_path / "Pictures"
    pictures.mkdir()
    (tmp_path / "outbox").symlink_to(pictures)
    real_folder(tmp_path / "outbox")
    assert not (tmp_path / "outbox").is_symlink()
    assert (tmp_path / "outbox").is_dir()
    real_folder(tmp_path / "outbox")
    assert len(list(tmp_path.glob("outbox.rubbish-*"))) == 1


def test_setting_aside_keeps_the_content(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    set_aside(tmp_path / "lock", "is no plain file")
    assert not (tmp_path / "lock").exists()


def test_a_disk_that_is_mounted_there_is_emptied_and_stays(tmp_path: Path) -> None:
    disk = tmp_path / "scratch"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("a disk is mounted by root only")
    try:
        (disk / "left" / "deeper").mkdir(parents=True)
        empty_folder(disk)
        assert os.path.ismount(disk)
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
