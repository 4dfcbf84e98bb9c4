"""Every error of the product: one tree, one line for the operator, an exit code."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import coordinator
import lab
import render_tasks
import sheepfold
from sheepfold import cli
from sheepfold.errors import ExitCode, SheepfoldError, default_message

#: A script of its own inside Blender, and one that starts at its import.
NOT_IMPORTED = {
    "sheepfold.__main__",
    "lab.demo_scene.scene",
    "lab.submit.dependencies.list_files",
    "render_tasks.blender.warm.driver",
}


def exceptions() -> Iterator[type[BaseException]]:
    for package in (sheepfold, coordinator, render_tasks, lab):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name in NOT_IMPORTED:
                continue
            for _, kind in inspect.getmembers(importlib.import_module(found.name), inspect.isclass):
                if issubclass(kind, BaseException) and kind.__module__ == found.name:
                    yield kind


PUBLIC = [kind for kind in exceptions() if not kind.__name__.startswith("_")]
OURS = [kind for kind in PUBLIC if issubclass(kind, SheepfoldError)]
named = pytest.mark.parametrize("kind", OURS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")


def test_each_package_keeps_its_errors_in_one_file() -> None:
    assert {kind.__module__.rpartition(".")[2] for kind in OURS} == {"errors"}


@named
def test_an_error_has_an_exit_code_and_a_line(kind: type[SheepfoldError]) -> None:
    assert kind.exit_code in set(ExitCode) - {ExitCode.DONE}
    assert default_message(kind) != kind.__name__, "it has no docstring of its own"
    assert "\n" not in default_message(kind)
    assert kind.__doc__ != (kind.__base__ or kind).__doc__


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind.__init__ is SheepfoldError.__init__])
def test_without_a_message_the_docstring_is_the_message(kind: type[SheepfoldError]) -> None:
    assert str(kind()) == default_message(kind)
    assert str(kind()) == " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    assert str(kind("its own")) == "its own"


def test_the_operators_line_is_one_line() -> None:
    assert SheepfoldError("first\n  second\n").operator_line == "first second"


class Refusal(SheepfoldError):
    """The server refuses."""

    exit_code = ExitCode.REFUSED


def test_the_command_prints_the_line_and_ends_with_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_arguments: object) -> None:
        raise Refusal("two\nlines")

    monkeypatch.setattr(cli, "app", refuse)
    with pytest.raises(SystemExit) as ended:
        cli.main(["status"])
    assert ended.value.code == 3
    assert capsys.readouterr().err == "two lines\n"
