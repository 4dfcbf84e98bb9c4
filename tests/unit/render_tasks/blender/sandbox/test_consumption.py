"""What a renderer takes of the disk, and how many processes it has."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from render_tasks.blender.sandbox.consumption import disk_use, too_many_processes, too_much_on_disk
from render_tasks.blender.sandbox.levels import RenderLimits
from render_tasks.untrusted.removal import remove

LIMITS = RenderLimits(disk_bytes=1024**2, files=50, processes=3)


def verdict(folder: Path) -> str:
    return too_much_on_disk(os.getpid(), folder, LIMITS)


def test_a_frame_within_its_limits_goes_on(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "frame_0001.png").write_bytes(b"x" * 1000)
    assert verdict(tmp_path) == ""


def test_files_that_take_too_much_are_noticed_wherever_they_lie(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x" * 2 * 1024**2)
    assert verdict(tmp_path).startswith("stopped: its files took 2")


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name are found by /proc")
def test_a_file_without_a_name_counts(tmp_path: Path) -> None:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(b"x" * 2 * 1024**2)
        file.flush()
        assert not list(tmp_path.iterdir())
        assert verdict(tmp_path).startswith("stopped: its files took")


def test_a_hole_takes_no_space(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1024**3)
    assert verdict(tmp_path) == ""


def test_more_files_than_allowed_are_not_even_counted(tmp_path: Path) -> None:
    for number in range(80):
        (tmp_path / str(number)).touch()
    assert disk_use(tmp_path, 50).files == 51
    assert verdict(tmp_path) == "stopped: it made more than 50 files"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "large").write_bytes(b"x" * 2 * 1024**2)
    (tmp_path / "home" / "link").symlink_to(tmp_path / "large")
    (tmp_path / "home" / "all").symlink_to(tmp_path)
    assert verdict(tmp_path / "home") == ""


def test_too_many_processes_are_noticed() -> None:
    assert too_many_processes(3, LIMITS) == ""
    assert too_many_processes(4, LIMITS) == "stopped: it had 4 processes, and a render may have 3"


def test_files_below_a_path_that_is_too_long_are_not_overlooked(tmp_path: Path) -> None:
    try:
        before = os.open(".", os.O_RDONLY)
        os.chdir(tmp_path)
        for _ in range(30):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
        Path("large").write_bytes(b"x" * 2 * 1024**2)
        assert verdict(tmp_path) == "stopped: it made a folder that nobody can look into, closed or too deep"
    finally:
        os.chdir(before)
        os.close(before)
        remove(tmp_path)


def test_files_in_a_folder_that_is_closed_are_not_overlooked(tmp_path: Path) -> None:
    """As another user than root, of whom nothing can be closed."""
    (tmp_path / "shut").mkdir(mode=0)
    program = (
        "import os, sys; from pathlib import Path; from render_tasks.blender.sandbox.consumption import disk_use; "
    )
    program += "os.geteuid() or os.setuid(54321); print(disk_use(Path(sys.argv[1]), 50).has_closed)"
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    told = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert told.stdout == "True\n"


def test_what_goes_while_it_is_looked_at_is_no_offence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    scandir = os.scandir

    def too_late(folder: str) -> object:
        if folder.endswith("gone"):
            (tmp_path / "gone").rmdir()
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", too_late)
    assert verdict(tmp_path) == ""
