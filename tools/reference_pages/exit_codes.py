"""The page of exit codes: what each means, and which errors end a command with it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import coordinator
import lab
import render_tasks
import sheepfold
from sheepfold.errors import ExitCode, SheepfoldError

from .field_comments import described
from .markdown import code, first_paragraph, page, table

PACKAGES = {package.__name__: package for package in (sheepfold, coordinator, render_tasks, lab)}
REFUSALS = """
A refusal is a wrong password, an account without rendering right, a client that is too old, a server of a generation
that sheepfold does not know, a wrong farm token, or a password of a role that may not do what a command asks for.

An error that ends a command is one line on standard error. Below are all of them; most are handled long before, and end
nothing.
"""
#: Runs inside Blender, which cannot be imported here.
_INSIDE_BLENDER = ("lab.demo_scene", "lab.submit.dependencies.list_files", "render_tasks.blender.warm.driver")


def page_text() -> str:
    """The codes, and every error of ours with the code that a command ends with."""
    for package in PACKAGES.values():
        _import_all(package)
    ours = (kind for kind in set(_below(SheepfoldError)) if kind.__module__.partition(".")[0] in PACKAGES)
    errors = sorted(ours, key=lambda kind: (kind.exit_code, kind.__module__, kind.__name__))
    rows = [
        (
            str(kind.exit_code.value),
            code(f"{kind.__module__}.{kind.__qualname__}"),
            first_paragraph(kind.__doc__, kind.__qualname__),
        )
        for kind in errors
    ]
    codes = [(str(exit_code.value), described(ExitCode, exit_code.name)) for exit_code in ExitCode]
    return page(
        "Exit codes",
        table(("code", "meaning"), codes),
        REFUSALS,
        "## Errors\n\n" + table(("code", "error", "meaning"), rows),
    )


def _import_all(package: ModuleType) -> None:
    """An error is known once its module is imported."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.startswith(_INSIDE_BLENDER) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _below(kind: type[SheepfoldError]) -> Iterator[type[SheepfoldError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
