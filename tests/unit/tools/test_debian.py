"""System packages are installed where somebody asked for it, and by one module alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import debian

PROJECT = Path(__file__).resolve().parents[3]
PRODUCT = ("sheepfold", "coordinator", "render_tasks", "lab", "benchmarks", "tools")
MANAGERS = (
    "apt",
    "apt-get",
    "aptitude",
    "apk",
    "brew",
    "choco",
    "dnf",
    "dpkg",
    "pacman",
    "snap",
    "sudo",
    "yum",
    "zypper",
)


@pytest.fixture(autouse=True)
def _root_on_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(debian.ASKED, raising=False)
    monkeypatch.setattr(debian.os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")


def test_root_on_debian_installs_nothing_unasked() -> None:
    assert not debian.may_install()


def test_whoever_is_asked_to_does_as_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(debian.ASKED, "1")
    assert debian.may_install()
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    assert not debian.may_install()


def test_two_targets_of_make_ask_for_it_and_the_readme_says_so() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(rf"^[^#\n]*{debian.ASKED} *:?=.*$", makefile, re.MULTILINE) == [
        f"lab test: export {debian.ASKED} := 1"
    ]
    readme = " ".join((PROJECT / "README.md").read_text(encoding="utf-8").split())
    assert "`make lab` and `make test` install what is missing with `apt-get`" in readme


def names_of_managers(source: str) -> Iterator[str]:
    """Strings that are the name of a package manager, or begin a command with one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value.split()
            if words and Path(words[0]).name in MANAGERS:
                yield node.value


def test_one_module_runs_a_package_manager() -> None:
    files = (file for package in PRODUCT for file in (PROJECT / package).rglob("*.py"))
    found = {str(file.relative_to(PROJECT)) for file in files if [*names_of_managers(file.read_text(encoding="utf-8"))]}
    # The second calls one of its ways `apt`.
    assert found == {"tools/debian.py", "tools/find_blender.py"}


@pytest.mark.parametrize(
    "code", ['run(["apt-get", "install"])', 'os.system("sudo dnf install x")', 'x = "/usr/bin/apt"']
)
def test_a_package_manager_is_recognised(code: str) -> None:
    assert list(names_of_managers(code))


def test_a_hint_for_people_is_none() -> None:
    assert list(names_of_managers('say("install bubblewrap (Debian and Ubuntu: apt-get install bubblewrap)")')) == []
