"""One renderer process that is a real Blender."""

from __future__ import annotations

import contextlib
import subprocess
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from render_tasks.blender.gpus import list_gpus
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.runner import render
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from tests.support.blender.render_jobs import PNG_SCRIPT, job, processes_naming, run

#: What the specification's own sample sends: written for 2.7x, it fails in every newer Blender.
OLD_SCRIPT = """import bpy
# disable the GPU for Cycles
bpy.context.user_preferences.system.compute_device_type = "NONE"
"""


def pixels(path: Path) -> np.ndarray:
    return np.asarray(oiio.ImageBuf(str(path)).get_pixels(oiio.FLOAT))


@pytest.mark.blender
@pytest.mark.parametrize("script", [PNG_SCRIPT, OLD_SCRIPT + PNG_SCRIPT, "this is (no Python"])
def test_a_picture_has_the_pixels_blender_gives_by_itself(
    blender: str, blender_archive: Path, light_scene: Path, tmp_path: Path, guard: OrphanGuard, script: str
) -> None:
    rendered, progress = run(job(blender_archive, light_scene, tmp_path, script=script), guard)
    (tmp_path / "server.py").write_text(script)
    by_hand = [blender, "--factory-startup", "--disable-autoexec", "-b", str(light_scene), "-P"]
    by_hand += [str(tmp_path / "server.py"), "-o", str(tmp_path / "direct_"), "-f", "7", "-x", "1"]
    subprocess.run(by_hand, check=True, capture_output=True, timeout=60)
    direct = next(tmp_path.glob("direct_*"))
    assert rendered.picture.suffix == direct.suffix == (".png" if script == PNG_SCRIPT else ".exr")
    assert np.array_equal(pixels(rendered.picture), pixels(direct))
    assert rendered.memory_kb > 50_000
    assert progress[-1].fraction == pytest.approx(1.0, abs=0.5)


@pytest.mark.blender
def test_blender_keeps_to_the_scratch_folder(
    blender_archive: Path, light_scene: Path, tmp_path: Path, guard: OrphanGuard
) -> None:
    look = """
    import bpy, os, tempfile
    print("user:", bpy.utils.user_resource("CONFIG"), bpy.utils.user_resource("SCRIPTS"))
    print("temporary:", os.environ["TMPDIR"], tempfile.gettempdir())
    print("nice:", os.nice(0))
    print("session:", os.getsid(0) == os.getpid())
    raise SystemExit(3)
    """
    with pytest.raises(AttemptFailed) as failed:
        run(job(blender_archive, light_scene, tmp_path, script=textwrap.dedent(look)), guard)
    scratch = tmp_path / "attempt"
    log = failed.value.report.log
    assert f"user: {scratch / 'config'} {scratch / 'scripts'}" in log
    assert f"temporary: {scratch / 'tmp'} {scratch / 'tmp'}" in log
    assert "nice: 19" in log
    assert "session: True" in log


@pytest.mark.blender
def test_our_lines_choose_the_cpu_and_the_temporary_folder_in_this_blender(
    blender_archive: Path, light_scene: Path, tmp_path: Path, guard: OrphanGuard
) -> None:
    look = """
    import atexit, bpy
    def look():
        scene = bpy.context.scene
        print("device:", scene.cycles.device, bpy.context.preferences.addons["cycles"].preferences.compute_device_type)
        print("folder:", bpy.context.preferences.filepaths.temporary_directory, flush=True)
    bpy.app.handlers.render_pre.append(lambda *_: (look(), __import__("os")._exit(3)))
    """
    with pytest.raises(AttemptFailed) as failed:
        run(job(blender_archive, light_scene, tmp_path, script=textwrap.dedent(look), gpu=True), guard)
    log = failed.value.report.log
    assert "device: CPU NONE" in log or list_gpus(blender_archive / "rend.exe")
    assert f"folder: {tmp_path / 'attempt' / 'tmp'}" in log
    assert "Traceback" not in log


@pytest.mark.blender
def test_a_real_render_is_cancelled_within_two_seconds(
    blender_archive: Path, heavy_scene: Path, tmp_path: Path, guard: OrphanGuard
) -> None:
    token, progress = CancelToken(), threading.Event()
    ended_at: list[float] = []

    def attempt() -> None:
        with contextlib.suppress(AttemptDropped):
            render(job(blender_archive, heavy_scene, tmp_path), token, guard, lambda _: progress.set())
        ended_at.append(time.monotonic())

    thread = threading.Thread(target=attempt)
    thread.start()
    assert progress.wait(30)
    began = time.monotonic()
    token.cancel("cancelled")
    thread.join(10)
    assert ended_at[0] - began < 2
    assert not processes_naming(tmp_path)


@pytest.mark.blender
def test_a_blender_that_dies_of_a_signal_has_crashed(
    blender_archive: Path, light_scene: Path, tmp_path: Path, guard: OrphanGuard
) -> None:
    script = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    with pytest.raises(AttemptFailed) as failed:
        run(job(blender_archive, light_scene, tmp_path, script=script), guard)
    assert failed.value.report.kind is FailureKind.RENDERER_CRASHED
    assert ".crash.txt" in failed.value.report.log


@pytest.mark.blender
def test_a_blender_without_gpus_lists_none_and_a_blender_that_is_none_does_not_hurt(blender: str) -> None:
    assert all(isinstance(name, str) for name in list_gpus(Path(blender)))
    assert list_gpus(Path("/nowhere/blender")) == ()
    assert list_gpus(Path("/bin/false")) == ()
