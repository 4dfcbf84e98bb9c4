"""Which file of a renderer's folder is the picture, and which the crash report."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from render_tasks.blender.output.left_files import crash_reports, find_picture, picture_names, read_crash_report
from render_tasks.errors import AttemptFailed
from sheepfold.contract.api_messages import FailureKind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("out", "tmp"):
        (tmp_path / name).mkdir()
    return tmp_path


def found_name(folder: Path, frame: int = 340) -> str | None:
    picture = find_picture(folder, frame, lambda: "what it printed")
    return picture.name if picture else None


@pytest.mark.parametrize("name", ["frame_0340.png", "frame_0340.exr", "frame_0340.jpg", "frame_0340"])
def test_the_picture_has_the_name_that_blender_makes_of_ours(folder: Path, name: str) -> None:
    (folder / "out" / name).write_bytes(b"picture")
    assert found_name(folder) == name


@pytest.mark.parametrize(
    "name",
    ["frame_340.png", "frame_00340.png", "frame_03401.png", "frame_1340.png", "frame_0340_L.png", "other_0340.png",
     "frame_0340.png.part", "frame_0340.", "frame_034.png", "frame_0340.sh"],
)  # fmt: skip
def test_a_file_of_another_name_is_never_taken(folder: Path, name: str) -> None:
    (folder / "out" / name).write_bytes(b"picture")
    assert found_name(folder) is None


def test_frames_past_9999_have_their_own_length() -> None:
    assert "frame_123456.png" in picture_names(123456)


def test_the_preview_beside_an_exr_is_not_the_picture_whichever_is_newer(folder: Path) -> None:
    for name, at in (("frame_0340.exr", 1), ("frame_0340.jpg", 2)):
        (folder / "out" / name).write_bytes(b"picture")
        os.utime(folder / "out" / name, (at, at))
    assert found_name(folder) == "frame_0340.exr"


def test_an_empty_file_is_no_picture(folder: Path) -> None:
    (folder / "out" / "frame_0340.exr").touch()
    assert found_name(folder) is None
    (folder / "out" / "frame_0340.png").write_bytes(b"picture")
    assert found_name(folder) == "frame_0340.png"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder link"])
def test_a_trap_in_place_of_a_picture_fails_the_frame_and_says_so(folder: Path, tmp_path: Path, kind: str) -> None:
    place = folder / "out" / "frame_0340.png"
    if kind == "link":
        place.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        (folder / "out").rename(folder / "moved")
        (folder / "out").symlink_to(folder / "moved")
    with pytest.raises(AttemptFailed) as failed:
        found_name(folder)
    report = failed.value.report
    assert report.kind is FailureKind.NO_OUTPUT
    assert "is a link, a pipe or the like" in report.reason or "is a folder, a pipe or the like" in report.reason
    assert report.log == "what it printed"


def test_a_crash_report_is_found_and_read(folder: Path) -> None:
    (folder / "tmp" / "scene.crash.txt").write_text("# Blender 3.4.1\n")
    (folder / "tmp" / "other.txt").touch()
    assert crash_reports(folder) == ["scene.crash.txt"]
    assert read_crash_report(folder, "scene.crash.txt") == "\n# scene.crash.txt\n# Blender 3.4.1\n"


def test_a_crash_report_that_is_a_link_or_a_pipe_tells_nothing(folder: Path) -> None:
    (folder / "tmp" / "a.crash.txt").symlink_to(f"/proc/{os.getpid()}/environ")
    os.mkfifo(folder / "tmp" / "b.crash.txt")
    (folder / "tmp" / "c.crash.txt").hardlink_to(_secret(folder))
    for name in crash_reports(folder):
        crash_report = read_crash_report(folder, name)
        assert "(not read: " in crash_report
        assert "PATH" not in crash_report
        assert "farm token" not in crash_report


def _secret(folder: Path) -> Path:
    path = folder / "secret"
    path.write_text("farm token")
    return path


def test_a_folder_that_is_a_link_holds_no_crash_report(folder: Path, tmp_path: Path) -> None:
    (folder / "tmp").rmdir()
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "a.crash.txt").write_text("the owner's")
    (folder / "tmp").symlink_to(folder / "elsewhere")
    assert crash_reports(folder) == []
