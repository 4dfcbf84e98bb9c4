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
from sheepfold.errors import SheepfoldError

from .markdown import code, first_paragraph, page, table

INTRODUCTION = """
| code | meaning |
|---|---|
| 0 | done, or stopped on request |
| 1 | something failed; the last line says what |
| 2 | a wrong setting or argument |
| 3 | a refusal that waiting cannot mend: wrong password, account without rendering right, client too old, a server of a generation nobody here speaks; or a wrong farm token |

An error that ends a command is one line on standard error. Below are all of them; most are handled long before, and end nothing.
"""
#: Runs inside Blender, which cannot be imported here.
_INSIDE_BLENDER = ("lab.demo_scene", "lab.submit.dependencies.list_files", "render_tasks.blender.warm.driver")


def page_text() -> str:
    """The whole page."""
    for package in (sheepfold, coordinator, render_tasks, lab):
        _import_all(package)
    errors = sorted(set(_below(SheepfoldError)), key=lambda kind: (kind.exit_code, kind.__module__, kind.__name__))
    rows = [
        (str(kind.exit_code), code(f"{kind.__module__}.{kind.__qualname__}"), first_paragraph(kind.__doc__, kind.__qualname__))
        for kind in errors
    ]
    return page("Exit codes", INTRODUCTION, "## Errors\n\n" + table(("code", "error", "meaning"), rows))


def _import_all(package: ModuleType) -> None:
    """An error is known once its module is imported."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.startswith(_INSIDE_BLENDER) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _below(kind: type[SheepfoldError]) -> Iterator[type[SheepfoldError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
