"""A PC with trouble of its own: a full disk, no Blender, a Blender that is none; in a farm of one PC and of two.

No frame fails for good, the operator is told within ten seconds, and the work goes on when the PC is mended: real
processes, a real Blender, a real file system that is full.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.submit.client import LabClient
from tests.support.farm.evidence import zipped
from tests.support.farm.running_farm import RunningFarm, running_farm, wait_for

pytestmark = [pytest.mark.blender, pytest.mark.redis, pytest.mark.timeout(240)]

SHOWN_WITHIN_S = 10
#: Of the PC's disk: with more than 256 MB free it takes frames.
DISK_MB = 320
FRAMES = 5
#: Time for a PC in trouble to be tried again, which must cost nothing.
RETRIES_S = 8
_SCENES = ("first", "second", "last", "no_camera")
_MAKE = """
import bpy
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising = 1, False
scene.render.resolution_x = scene.render.resolution_y = 16
scene.render.resolution_percentage = 100
for path in {paths!r}:
    scene.camera.location.z += 0.1
    if "no_camera" in path:
        bpy.data.objects.remove(scene.camera)
    bpy.ops.wm.save_as_mainfile(filepath=path)
"""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What is wrong with the PC, and what its operator reads."""

    name: str
    status_line: str


FULL = Trouble(name="full disk", status_line="disk full")
NONE = Trouble(name="no Blender", status_line="is no program on this PC")
WRONG = Trouble(name="wrong Blender", status_line="does not say that it is a Blender")


class TroubledPc:
    """A PC that a test breaks and mends: its work folder is a small disk of its own, its Blender a link."""

    def __init__(self, farm: RunningFarm, folder: Path, small_disk: Path, blender: str) -> None:
        self.farm, self._blender = farm, blender
        self._link, self._filler = folder / "blender-of-pc", small_disk / "filler"
        self._point_to(blender)

    def start(self) -> None:
        self.farm.start_worker("pc-01", SHEEPFOLD_BLENDER=str(self._link))
        wait_for("pc-01 is here", self.shown, 30)

    def shown(self) -> dict[str, Any]:
        """The PC in the status."""
        return next((node for node in self.farm.status()["nodes"] if node["name"] == "pc-01"), {})

    def break_it(self, trouble: Trouble) -> None:
        if trouble is FULL:
            with contextlib.suppress(OSError), self._filler.open("wb") as file:
                while True:
                    file.write(bytes(1024**2))
        elif trouble is NONE:
            self._link.unlink()
        else:
            self._point_to("/bin/true")

    def mend(self) -> None:
        self._filler.unlink(missing_ok=True)
        self._point_to(self._blender)

    def _point_to(self, program: str) -> None:
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(program)


@pytest.fixture(scope="module")
def scenes(blender: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scenes of 16 × 16 pixels; the last one has no camera."""
    folder = tmp_path_factory.mktemp("scenes")
    scene_files = {name: folder / f"{name}.blend" for name in _SCENES}
    code = _MAKE.format(paths=[str(path) for path in scene_files.values()])
    command = [blender, "-b", "--factory-startup", "--python-expr", code]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return scene_files


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system, where pc-01 has its work folder."""
    folder = tmp_path / "pc-01"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.fixture
def farm(tmp_path: Path, blender: str) -> Iterator[RunningFarm]:
    """Server and coordinator; no PC yet."""
    with running_farm(tmp_path, environment={"SHEEPFOLD_BLENDER": blender}) as running:
        running.start_server()
        running.start_coordinator()
        yield running


def submit(farm: RunningFarm, scene: Path, frames: int) -> Callable[[], dict[str, Any]]:
    """A new project; what comes back asks the server how it stands."""
    done = farm.run("submit", str(scene), "--frames", f"1-{frames}", "--name", scene.stem)
    assert done.returncode == 0, done.stderr
    return project_called(farm, scene.stem)


def project_called(farm: RunningFarm, name: str) -> Callable[[], dict[str, Any]]:
    """Asks the server how a project stands."""
    return lambda: next(project for project in farm.projects()["projects"] if project["name"] == name)


def seconds_until_shown(farm: RunningFarm, status_line: str) -> float:
    """How long it takes until ``sheepfold status`` says it."""
    began = time.monotonic()
    wait_for(
        f"the status says {status_line!r}",
        lambda: status_line in " ".join(farm.run("status").stdout.split()),
        SHOWN_WITHIN_S,
    )
    return time.monotonic() - began


@pytest.mark.parametrize("trouble", [FULL, NONE, WRONG], ids=lambda trouble: trouble.name)
@pytest.mark.parametrize("pcs", [1, 2], ids=["one PC", "two PCs"])
def test_a_pc_in_trouble_loses_no_frame_says_why_and_goes_on_when_it_is_mended(
    farm: RunningFarm,
    tmp_path: Path,
    small_disk: Path,
    blender: str,
    scenes: dict[str, Path],
    pcs: int,
    trouble: Trouble,
) -> None:
    """Given a PC that breaks in the middle of a job, and another job after that."""
    pc = TroubledPc(farm, tmp_path, small_disk, blender)
    pc.start()
    first = submit(farm, scenes["first"], FRAMES)
    wait_for("the first frame is accepted", lambda: first()["accepted"] >= 1, 60)
    pc.break_it(trouble)
    second = submit(farm, scenes["second"], FRAMES)
    seconds = seconds_until_shown(farm, trouble.status_line)
    print(f"measured: {trouble.name}, {pcs} PC(s): shown after {seconds:.1f} s")
    if pcs == 2:
        farm.start_worker("pc-02")
        wait_for("the other PC renders it all", lambda: second()["accepted"] == FRAMES, 60)
        farm.stop("pc-02")
    else:
        time.sleep(RETRIES_S)
        assert second()["accepted"] == 0, "there is nobody to render it"
    assert first()["failed"] == second()["failed"] == 0

    pc.mend()
    last = submit(farm, scenes["last"], FRAMES)
    wait_for("the work goes on", lambda: {progress()["accepted"] for progress in (first, second, last)} == {FRAMES}, 90)
    assert pc.shown()["trouble"] == pc.shown()["no_blender"] == ""
    assert first()["failed"] == second()["failed"] == last()["failed"] == 0
    assert not list((tmp_path / "server").glob("projects/*/logs/*")), "the server was told of no failure"


def test_a_scene_without_a_camera_costs_three_starts_of_blender_and_says_so(
    farm: RunningFarm, scenes: dict[str, Path], tmp_path: Path
) -> None:
    """Given 250 frames and one PC."""
    farm.start_worker("pc-01")
    # Our own command refuses such a scene; other servers' scenes come as they are.
    archive = tmp_path / "scene.zip"
    archive.write_bytes(zipped("no_camera.blend", scenes["no_camera"].read_bytes()))
    fields = {"name": "no_camera", "frames": "1-250", "scene": "no_camera.blend"}
    LabClient(farm.server_url, farm.login, farm.password).submit(archive, fields)
    project = project_called(farm, "no_camera")
    wait_for("the project ends", lambda: project()["state"] != "active", 60)
    assert project()["failed"] == 250
    orders = farm.log_of("coordinator").read_text().count(" ordered from ")
    print(f"measured: orders for 250 frames without a camera: {orders}")
    assert orders <= 3
    log = next((tmp_path / "server").glob("projects/*/logs/0001.log")).read_text()
    assert log.splitlines()[0] == "no camera: Cannot render, no camera"
    assert "on hold: Cannot render, no camera" in farm.log_of("coordinator").read_text()
