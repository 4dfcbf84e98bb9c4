"""The demo scene: a flock of sheep, made by ``scene.py`` inside Blender."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from pathlib import Path

from lab.errors import NoBlender
from lab.submit.dependencies.blender_files import local_blender

log = logging.getLogger(__name__)

SCENE = Path(__file__).parent / "scene.py"
NAME = "demo"
FRAMES = range(1, 13)
#: Building the scene takes two seconds; a first start from a cold disk half a minute.
BUILD_LIMIT_S = 180


def build_scene(target: Path) -> Path:
    """Let Blender write the demo scene to ``target``; raises :class:`NoBlender`."""
    command = [local_blender(), "--background", "--factory-startup", "-noaudio", "--python-exit-code", "1"]
    command += ["--python", str(SCENE), "--", str(target)]
    log.info("Blender builds the demo scene")
    # A session of its own: on the time limit all of Blender's processes go, not only the first.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=BUILD_LIMIT_S)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise NoBlender(f"Blender did not build the demo scene within {BUILD_LIMIT_S} s") from None
        raise
    if process.returncode != 0 or not target.is_file():
        last = "; ".join(output.decode("utf-8", "replace").strip().splitlines()[-3:])
        raise NoBlender(f"Blender could not build the demo scene (exit code {process.returncode}): {last[-500:]}")
    return target
