"""The demo project: a flock of sheep, made by ``scene.py`` inside Blender."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import NoBlender
from lab.server.store.projects import NewProject, Project
from lab.submit.dependencies.blender_files import find_blender
from lab.submit.packing import pack_scene
from lab.submit.scene.facts import read_scene
from lab.submit.scene.notes import picture_size
from sheepfold.digests import file_md5

if TYPE_CHECKING:
    from lab.server.services import LabServices

log = logging.getLogger(__name__)

SCENE = Path(__file__).parent / "scene.py"
NAME = "demo"
FRAMES = range(1, 13)
#: Building the scene takes two seconds; a first start from a cold disk half a minute.
BUILD_LIMIT_S = 180


def create_demo(services: LabServices) -> Project:
    """The demo project, made unless there is one; raises :class:`NoBlender`."""
    there = services.projects.named(NAME)
    if there is not None:
        return there
    with tempfile.TemporaryDirectory(prefix="sheepfold-demo-") as folder:
        blend = build_scene(Path(folder) / "sheep.blend")
        width, height = picture_size(read_scene(blend))
        packed = pack_scene(blend, Path(folder) / "project.zip")
        md5, size = file_md5(packed.path), packed.path.stat().st_size
        shutil.move(packed.path, services.store.archive(md5))
    return services.projects.add(
        NewProject(
            name=NAME,
            owner=services.settings.login,
            frames=FRAMES,
            archive_md5=md5,
            archive_bytes=size,
            scene_path=packed.scene,
            width=width,
            height=height,
        )
    )


def build_scene(target: Path) -> Path:
    """Let Blender write the demo scene to ``target``; raises :class:`NoBlender`."""
    command = [find_blender(), "--background", "--factory-startup", "-noaudio", "--python-exit-code", "1"]
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
