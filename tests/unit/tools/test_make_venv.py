"""How the project's environment is made where Debian's Python came without its pieces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import debian, make_venv


@pytest.fixture
def commands_run(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What would have been run."""
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(make_venv, "_run", lambda *command: ran.append(command))
    return ran


@pytest.fixture
def installed_modules(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which modules this Python seems to have."""
    there: set[str] = set()
    monkeypatch.setattr(make_venv.importlib.util, "find_spec", lambda name: object() if name in there else None)
    monkeypatch.setattr(debian, "may_install", lambda: False)
    monkeypatch.setattr(make_venv.shutil, "which", lambda name: None)
    return there


def test_an_ordinary_python_makes_it_by_itself(
    commands_run: list[tuple[str, ...]], installed_modules: set[str]
) -> None:
    installed_modules.add("ensurepip")
    make_venv.make_venv(Path("v"))
    assert commands_run == [(sys.executable, "-m", "venv", "--clear", "v")]


def test_root_on_debian_installs_what_is_missing(
    commands_run: list[tuple[str, ...]], installed_modules: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "may_install", lambda: True)
    monkeypatch.setattr(debian, "install", lambda *packages: installed_modules.add("ensurepip"))
    make_venv.make_venv(Path("v"))
    assert commands_run == [(sys.executable, "-m", "venv", "--clear", "v")]


def test_apt_that_fails_is_not_the_end(
    commands_run: list[tuple[str, ...]], installed_modules: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_line(*packages: str) -> None:
        raise debian.AptFailed("no line")

    monkeypatch.setattr(debian, "may_install", lambda: True)
    monkeypatch.setattr(debian, "install", no_line)
    monkeypatch.setattr(make_venv.shutil, "which", lambda name: f"/usr/bin/{name}")
    make_venv.make_venv(Path("v"))
    assert commands_run == [("/usr/bin/virtualenv", "--quiet", "--clear", "--python", sys.executable, "v")]


def test_a_python_that_has_only_pip_puts_pip_into_it(
    commands_run: list[tuple[str, ...]], installed_modules: set[str]
) -> None:
    installed_modules.add("pip")
    make_venv.make_venv(Path("v"))
    assert [command[2] for command in commands_run] == ["venv", "pip"]
    assert "--without-pip" in commands_run[0]


def test_where_nothing_helps_the_package_is_named(
    installed_modules: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_venv.main(["v"]) == 1
    assert "apt-get install python3-venv" in capsys.readouterr().err


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(make_venv.sys, "version_info", (3, 9, 2))
    assert make_venv.main(["v"]) == 1
    assert "3.11 or later" in capsys.readouterr().err


def test_a_failed_command_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def failing(target: Path) -> None:
        raise subprocess.CalledProcessError(1, ["python", "-m", "venv"])

    monkeypatch.setattr(make_venv, "make_venv", failing)
    assert make_venv.main(["v"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
