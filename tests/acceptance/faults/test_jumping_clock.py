"""Somebody sets the machine's clock by an hour, both ways, with real processes.

A small library (``shifted_clock.c``) gives every process of the farm, Redis too, another wall clock, and leaves alone
the one that only counts, as a person does who sets a clock.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.farm.faulty_farm import TWO_PCS, FaultyFarm, Project
from tests.support.farm.running_farm import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

FRAMES = 12


class WallClock:
    """The clock of every process that :attr:`environment` reaches."""

    def __init__(self, folder: Path, compiler: str) -> None:
        self._file = folder / "shift"
        self._shift_s = 0
        self.shift(0)
        library = folder / "shifted_clock.so"
        source = Path(__file__).with_name("shifted_clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        """Somebody sets it."""
        self._shift_s += seconds
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", self._shift_s))


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    compiler = shutil.which("cc")
    if compiler is None:
        reason = "a C compiler is needed to shift the clock of real processes"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return WallClock(tmp_path_factory.mktemp("clock"), compiler)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, clock: WallClock) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path_factory.mktemp("farm"), environment=clock.environment)
    try:
        farm.begin(*TWO_PCS)
        yield farm
    finally:
        farm.end()


def half_rendered_project(farm: FaultyFarm) -> Project:
    """A job of which both PCs render a frame and hold another."""
    project = farm.submit(f"1-{FRAMES}", acts={"*": "gate"})
    wait_for("both PCs render", lambda: len(project.starts()) == 2, 20)
    wait_for("they hold others", lambda: farm.active() >= 4, 20)
    return project


@pytest.mark.parametrize("set_by", [3600, -3600], ids=["forward", "back"])
@pytest.mark.parametrize("restarted", [None, "server", "coordinator"])
def test_every_frame_is_rendered_once(farm: FaultyFarm, clock: WallClock, set_by: int, restarted: str | None) -> None:
    before = farm.accounting()
    project = half_rendered_project(farm)
    if restarted:
        farm.kill(restarted)
    clock.shift(set_by)
    if restarted == "server":
        farm.start_server("--faults", "--renderer", f"linux/64bit={farm.folder / 'renderer.zip'}")
    elif restarted:
        farm.start_coordinator()
    # Several heartbeats, sweeps and looks at what has expired.
    time.sleep(4)
    project.open()
    farm.wait_until_accepted(project, FRAMES, within_s=40)
    assert sorted(start.frame for start in project.starts()) == list(range(1, FRAMES + 1))
    accounting = farm.accounting()
    assert accounting["grants"] - before["grants"] == FRAMES
    assert (accounting["expiries"], accounting["again"]) == (before["expiries"], before["again"])


def test_and_a_pc_that_is_lost_is_still_found(farm: FaultyFarm, clock: WallClock) -> None:
    project = farm.submit("1", acts={"1:*": "gate"})
    first = farm.wait_until_started(project, 1)
    clock.shift(-3600)
    farm.kill(first.pc)
    # Silent for 15 s, and no less than that since the clock was set.
    farm.wait_until_started(project, 1, times=2, within_s=45)
    project.open()
    farm.wait_until_accepted(project, 1)
