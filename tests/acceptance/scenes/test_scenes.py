"""Small scenes of every kind, by the farm and by bare Blender: the pixels are equal, or the person was told.

``make test`` renders a few of them, ``make test-scenes`` all (``SHEEPFOLD_ALL_SCENES=1``). The scenes are made by
``scenes/make_scenes.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import pytest

from tests.support.commands import EndedCommand, run_command
from tests.support.farm.running_farm import RunningFarm, running_farm, wait_for
from tests.support.scenes.blender_scripts import run_scene_script
from tests.support.scenes.make_scenes import CASES

pytestmark = [pytest.mark.blender, pytest.mark.redis, pytest.mark.timeout(900)]

#: One of each kind, for every run of the tests.
FEW = (
    "crop-and-percent", "exr-layers", "movie-ffmpeg", "stereo-two-files-png", "camera-none",
    "camera-by-marker", "frames-own-with-step", "cloth-baked", "file-output", "driver-python", "name-signs",
)  # fmt: skip
SCENES = tuple(CASES) if os.environ.get("SHEEPFOLD_ALL_SCENES") else FEW
#: A frame takes two seconds; all scenes wait in one queue.
RENDERED_WITHIN_S = 600


class SubmittedScenes:
    """Every scene, submitted to one farm, and how each command ended."""

    def __init__(self, farm: RunningFarm, folder: Path) -> None:
        self.farm, self.folder = farm, folder
        self.commands: dict[str, EndedCommand] = {}

    def file(self, name: str) -> Path:
        return self.folder / f"{CASES[name].get('file', name)}.blend"

    def submit(self, name: str) -> None:
        frame = CASES[name].get("frame", 1)
        frames = () if frame == "own" else ("--frames", str(frame))
        arguments = ["submit", *frames, "--name", name, "--", str(self.file(name))]
        environment = {**self.farm.environment(), "SHEEPFOLD_ALL_SCENES": None}
        self.commands[name] = run_command(arguments, environment)

    def projects(self) -> list[dict[str, Any]]:
        return self.farm.projects()["projects"]

    def project(self, name: str) -> dict[str, Any]:
        return next(project for project in self.projects() if project["name"] == name)

    def pictures(self, name: str) -> list[Path]:
        """The farm's pictures, once there are all."""
        wait_for(f"{name} is rendered", lambda: self.project(name)["state"] == "done", RENDERED_WITHIN_S)
        assert self.project(name)["failed"] == 0
        return sorted(Path(self.project(name)["folder"]).iterdir())


@pytest.fixture(scope="module")
def scenes(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SubmittedScenes]:
    folder = tmp_path_factory.mktemp("scenes")
    run_scene_script(blender, "make_scenes.py", folder, *SCENES, timeout=300)
    farm_folder = tmp_path_factory.mktemp("farm")
    with running_farm(farm_folder, environment={"SHEEPFOLD_BLENDER": blender}) as farm:
        farm.start_server()
        farm.start_coordinator()
        for name in ("pc-01", "pc-02"):
            farm.start_worker(name, SHEEPFOLD_SLOTS="1", SHEEPFOLD_CORES="1")
        submitted = SubmittedScenes(farm, folder)
        for name in SCENES:
            submitted.submit(name)
        yield submitted


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_comes_back_as_blender_makes_it_or_its_person_is_told(
    name: str, scenes: SubmittedScenes, blender: str, tmp_path: Path
) -> None:
    expected, submitted = CASES[name], scenes.commands[name]
    if "refused" in expected:
        assert submitted.exit_code == 2, submitted.stderr
        assert re.search(expected["refused"], submitted.stderr), submitted.stderr
        assert len(submitted.stderr.splitlines()) == 1, submitted.stderr
        assert name not in [project["name"] for project in scenes.projects()]
        return
    assert submitted.exit_code == 0, submitted.stderr
    warnings = [line.removeprefix("warning: ") for line in submitted.stderr.splitlines()]
    assert re.search(expected.get("warning", "^$"), "\n".join(warnings)), warnings
    assert scenes.project(name)["notes"] == warnings, "the server shows what the person was told"
    if not expected.get("renders", True):
        return
    pictures = scenes.pictures(name)
    frame = expected.get("frame", 1)
    assert [int(path.stem) for path in pictures] == list(expected.get("frames", (frame,)))
    if not expected.get("differs"):
        for path in pictures:
            bare = rendered_by_blender(blender, scenes.file(name), int(path.stem), tmp_path, expected.get("bare", ()))
            assert {path.suffix} == {other.suffix for other in bare}
            assert_equal(path, bare)
    assert not list(scenes.farm.folder.glob("pc-*/archives/*/passes")), "nothing is written beside a kept scene"


def rendered_by_blender(blender: str, scene: Path, frame: int, folder: Path, more: tuple[str, ...]) -> list[Path]:
    """What bare Blender makes of a frame: one picture, or one for each eye."""
    out = folder / f"bare-{frame}"
    command = [blender, "--factory-startup", "--disable-autoexec", "-noaudio", "-t", "1", "-b", str(scene)]
    command += ["-o", f"{out}/####", "-x", "1", *more, "-f", str(frame)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pictures = sorted(out.iterdir())
    assert pictures, f"bare Blender made no picture of {scene.name}"
    return pictures


def assert_equal(path: Path, others: list[Path]) -> None:
    """Every part, channel and sample; two pictures for the eyes are compared with the two halves of one."""
    found, wanted = samples(path), [samples(other) for other in others]
    joined = (
        wanted[0]
        if len(wanted) == 1
        else [(wanted[0][0][0], np.concatenate([image[0][1] for image in wanted], axis=1))]
    )
    assert [names for names, _ in found] == [names for names, _ in joined]
    for (_, mine), (_, theirs) in zip(found, joined, strict=True):
        assert mine.shape == theirs.shape
        assert np.array_equal(mine, theirs, equal_nan=True), f"{np.count_nonzero(mine != theirs)} samples differ"


def samples(path: Path) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """The names and samples of the channels, part by part."""
    parts = []
    for part in range(oiio.ImageBuf(str(path)).nsubimages or 1):
        image = oiio.ImageBuf(str(path), part, 0)
        pixels = image.get_pixels(oiio.FLOAT)
        assert not image.has_error, image.geterror()
        parts.append((tuple(image.spec().channelnames), np.asarray(pixels)))
    return parts
