"""A real Blender whose scene runs Python against the worker's own folders."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.errors import AttemptFailed
from render_tasks.untrusted.removal import remove
from sheepfold.contract.api_messages import FailureKind
from tests.support.blender.render_jobs import PNG_SCRIPT, job, run

pytestmark = pytest.mark.blender

_TRAPS = """
import os
folder = os.getcwd()
os.symlink("/proc/%d/environ", folder + "/tmp/a.crash.txt")
os.mkfifo(folder + "/tmp/b.crash.txt")
"""

#: Runs when the picture is written: newer files, pipes, and a thousand folders in each other, which can be counted.
_LEAVE_RUBBISH = """
import bpy, os
def leave(*_):
    folder = os.getcwd()
    for name in ("frame_7.png", "frame_00007.png", "frame_0007.jpg", "newest.exr"):
        with open(folder + "/out/" + name, "w") as file:
            file.write("not the picture")
    os.mkfifo(folder + "/out/frame_0007.bmp")
    for number in range(1000):
        os.mkdir("d")
        os.chdir("d")
bpy.app.handlers.render_write.append(leave)
"""

#: Makes a folder whose path is longer than any may be, and stays until it is ended.
_HIDE_FILES = """
import os, time
for number in range(3000):
    os.mkdir("d")
    os.chdir("d")
time.sleep(100)
"""


def test_links_and_pipes_in_place_of_a_crash_report_tell_nothing(
    blender_archive: Path, light_scene: Path, tmp_path: Path, guard: OrphanGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHEEPFOLD_FARM_TOKEN", "a-token-nobody-may-see")
    script = _TRAPS % os.getpid() + "os._exit(1)\n"
    began = time.monotonic()
    with pytest.raises(AttemptFailed) as failed:
        run(job(blender_archive, light_scene, tmp_path, script=script), guard)
    assert time.monotonic() - began < 60
    assert "a.crash.txt\n(not read: " in failed.value.report.log
    assert "a-token-nobody-may-see" not in failed.value.report.log
    for thread in threading.enumerate():
        if thread.name == "after render":
            thread.join(10)
            assert not thread.is_alive(), "it waits for a pipe"


def test_an_output_folder_that_is_a_link_is_not_followed(
    blender_archive: Path, light_scene: Path, tmp_path: Path, guard: OrphanGuard
) -> None:
    pictures = tmp_path / "Pictures"
    pictures.mkdir()
    script = f"import os\nos.rmdir(os.getcwd() + '/out')\nos.symlink({str(pictures)!r}, os.getcwd() + '/out')\n"
    with pytest.raises(AttemptFailed) as failed:
        run(job(blender_archive, light_scene, tmp_path, script=PNG_SCRIPT + script), guard)
    assert failed.value.report.kind is FailureKind.NO_OUTPUT
    assert "'out' is a link, a pipe or the like" in failed.value.report.reason


def test_the_picture_is_the_one_of_our_name_whatever_is_newer(
    blender_archive: Path, light_scene: Path, tmp_path: Path, guard: OrphanGuard
) -> None:
    rendered, _ = run(job(blender_archive, light_scene, tmp_path, script=PNG_SCRIPT + _LEAVE_RUBBISH), guard)
    assert rendered.picture.name == "frame_0007.png"
    assert rendered.picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "attempt" / "out" / "newest.exr").exists(), "the scene's Python has run"
    assert remove(tmp_path / "attempt")


def test_a_folder_too_deep_to_look_into_ends_the_render_and_is_removed(
    blender_archive: Path, light_scene: Path, tmp_path: Path, guard: OrphanGuard
) -> None:
    try:
        with pytest.raises(AttemptFailed) as failed:
            run(job(blender_archive, light_scene, tmp_path, script=PNG_SCRIPT + _HIDE_FILES), guard)
        assert failed.value.report.kind is FailureKind.RESOURCE_LIMIT
        assert "a folder that nobody can look into" in failed.value.report.reason
    finally:
        is_removed = remove(tmp_path / "attempt")
    assert is_removed
