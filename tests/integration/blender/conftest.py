"""What every renderer process needs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from render_tasks.blender.orphan_guard import OrphanGuard

_SCENE = """
import bpy, sys
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = {samples}
scene.cycles.use_denoising = False
scene.cycles.device = "GPU"
scene.render.resolution_x = scene.render.resolution_y = {size}
scene.render.resolution_percentage = 100
scene.render.threads_mode = "AUTO"
scene.render.image_settings.file_format = "OPEN_EXR"
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
"""


@pytest.fixture
def guard() -> Iterator[OrphanGuard]:
    guard = OrphanGuard()
    guard.start()
    yield guard
    guard.stop()


@pytest.fixture(scope="module")
def blender_archive(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A renderer archive that launches the Blender of this PC, unpacked."""
    folder = tmp_path_factory.mktemp("renderer")
    launcher = folder / "rend.exe"
    launcher.write_text(f'#!/bin/sh\nexec "${{SHEEPFOLD_BLENDER:-{blender}}}" "$@"\n')
    launcher.chmod(0o755)
    return folder


def scene(blender: str, folder: Path, *, samples: int, size: int) -> Path:
    path = folder / f"scene {samples}.blend"
    code = _SCENE.format(samples=samples, size=size)
    argv = [blender, "-b", "--factory-startup", "--python-expr", code, "--", str(path)]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def light_scene(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene(blender, tmp_path_factory.mktemp("light"), samples=4, size=48)


@pytest.fixture(scope="module")
def heavy_scene(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene(blender, tmp_path_factory.mktemp("heavy"), samples=100_000, size=1000)
