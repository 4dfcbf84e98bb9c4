"""Which Blender this PC has, and why none."""

from __future__ import annotations

from pathlib import Path

import pytest

from render_tasks.blender.installed import ASK_AGAIN_S, LocalBlender
from sheepfold.blender import ask_version
from tests.support.clocks import ManualClock


class InstalledBlenderHarness:
    """A PC whose Blender a test installs, breaks and removes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.program, self.clock, self.asked = folder / "bin" / "blender", ManualClock(), 0
        self.program.parent.mkdir()
        monkeypatch.setenv("PATH", str(self.program.parent))
        monkeypatch.delenv("SHEEPFOLD_BLENDER", raising=False)
        self.blender = LocalBlender(ask=self._ask, clock=self.clock)

    def install(self, script: str) -> None:
        self.program.unlink(missing_ok=True)
        self.program.write_text(f"#!/bin/sh\n{script}\n")
        self.program.chmod(0o755)

    def _ask(self, path: Path) -> str:
        self.asked += 1
        return ask_version(path)


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstalledBlenderHarness:
    return InstalledBlenderHarness(tmp_path, monkeypatch)


def test_it_is_found_on_path_and_asked_once(harness: InstalledBlenderHarness) -> None:
    harness.install("echo 'Blender 4.2.1 LTS'; echo '  build date: today'")
    for _ in range(5):
        assert harness.blender.look().version == "4.2.1"
        harness.clock.now += 1000
    assert harness.asked == 1


def test_the_setting_comes_first(harness: InstalledBlenderHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.install("echo 'Blender 4.2.1'")
    monkeypatch.setenv("SHEEPFOLD_BLENDER", "/nowhere/blender")
    assert harness.blender.look().why_not == "SHEEPFOLD_BLENDER: /nowhere/blender is no program on this PC"


def test_a_pc_without_one_says_what_to_do(harness: InstalledBlenderHarness) -> None:
    found = harness.blender.look()
    assert (found.version, found.why_not) == ("", "no blender on PATH: install one, or let SHEEPFOLD_BLENDER name it")


@pytest.mark.parametrize(
    "script",
    ["exit 0", "echo 'GIMP 2.10'", "exit 127", "echo 'Blender'; kill -9 $$"],
    ids=["mute", "other", "127", "dies"],
)
def test_a_program_that_is_no_blender_is_none(harness: InstalledBlenderHarness, script: str) -> None:
    harness.install(script)
    assert harness.blender.look().version == ""
    assert "does not say that it is a Blender" in harness.blender.look().why_not


def test_installing_it_is_noticed_at_the_next_look_and_so_is_its_end(harness: InstalledBlenderHarness) -> None:
    assert not harness.blender.look().version
    harness.install("echo 'Blender 3.6.0'")
    assert harness.blender.look().version == "3.6.0"
    harness.install("echo 'Blender 4.0.2 '")
    assert harness.blender.look().version == "4.0.2"
    harness.program.unlink()
    assert "no blender on PATH" in harness.blender.look().why_not


def test_one_that_gave_no_answer_is_asked_again_after_a_while(harness: InstalledBlenderHarness, tmp_path: Path) -> None:
    """Given a library that is installed later: the program itself stays as it was."""
    harness.install(f"[ -e {tmp_path}/lib ] && echo 'Blender 3.6.0'")
    assert not harness.blender.look().version
    (tmp_path / "lib").touch()
    assert not harness.blender.look().version
    assert harness.asked == 1
    harness.clock.now += ASK_AGAIN_S
    assert harness.blender.look().version == "3.6.0"
