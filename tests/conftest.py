"""Services the tests need. One that is missing fails in CI and skips, with its reason, on a laptop."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DEMO_SCRIPT = Path(__file__).parents[1] / "lab" / "demo_scene" / "scene.py"


def missing(reason: str) -> None:
    """The service is not here."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def blender() -> str:
    """Path of a real Blender."""
    found = os.environ.get("SHEEPFOLD_BLENDER") or shutil.which("blender")
    if not found:
        missing("no Blender: install one, or set SHEEPFOLD_BLENDER")
    return str(found)


@pytest.fixture(scope="session")
def demo_scene(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo project's scene, as the lab server makes it."""
    scene = tmp_path_factory.mktemp("demo") / "demo.blend"
    subprocess.run(
        [blender, "-b", "--factory-startup", "-P", str(DEMO_SCRIPT), "--", str(scene)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return scene


@pytest.fixture(scope="session")
def seven_zip() -> str:
    """A packer that locks zips, and is not ours."""
    found = shutil.which("7z")
    if not found:
        missing("no 7z: install p7zip-full")
    return str(found)


@pytest.fixture(scope="session")
def bubblewrap() -> str:
    """What Blender is looked into a scene with, where it is there."""
    found = shutil.which("bwrap")
    if not found:
        missing("no bwrap: install bubblewrap")
    return str(found)
