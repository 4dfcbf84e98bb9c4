"""Every error of the product: one tree, one line for the operator, an exit code."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
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
    "lab.demo_scene.solids",
    "lab.submit.dependencies.list_files",
    "render_tasks.blender.warm.driver",
}


def exception_classes() -> Iterator[type[BaseException]]:
    for package in (sheepfold, coordinator, render_tasks, lab):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name in NOT_IMPORTED:
                continue
            for _, kind in inspect.getmembers(importlib.import_module(found.name), inspect.isclass):
                if issubclass(kind, BaseException) and kind.__module__ == found.name:
                    yield kind


#: Public, and meant to stand elsewhere.
OUTSIDE_THE_TREE = {
    "render_tasks.tasks.FrameDropped": "Celery's worker asks for its own Ignore by type",
    "lab.demo_run.run.SignalReceived": "a BaseException: it must pass every `except Exception` on its way out",
}
#: Private: they never leave their module.
PRIVATE = {"sheepfold.protocol.xml_document._Refused"}


def name_of(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


ALL = list(exception_classes())
PUBLIC = [kind for kind in ALL if not kind.__name__.startswith("_")]
OURS = [kind for kind in PUBLIC if issubclass(kind, SheepfoldError)]
named = pytest.mark.parametrize("kind", OURS, ids=name_of)


def test_every_public_exception_is_in_the_tree() -> None:
    outside = {name_of(kind) for kind in PUBLIC if not issubclass(kind, SheepfoldError)}
    assert outside == OUTSIDE_THE_TREE.keys()
    assert {name_of(kind) for kind in OURS if not kind.__module__.endswith(".errors")} == set()


def test_every_other_exception_is_private() -> None:
    assert {name_of(kind) for kind in ALL if kind not in PUBLIC} == PRIVATE


def test_each_package_keeps_its_errors_in_one_file() -> None:
    """A package of the coordinator, and every other part, has one ``errors.py``."""
    depth = {"coordinator": 2, "sheepfold": 2, "render_tasks": 1, "lab": 1}
    parts = {module: module.split(".")[:-1] for module in (kind.__module__ for kind in OURS)}
    assert {module for module, path in parts.items() if len(path) > depth[path[0]]} == set()


def test_no_two_exceptions_have_one_name() -> None:
    twice = [name for name, count in Counter(kind.__name__ for kind in ALL).items() if count > 1]
    assert twice == []


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
