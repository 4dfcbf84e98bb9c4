"""The `#:` comments above the fields of a class, which say what each field means."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from enum import Enum
from typing import Any

from .markdown import NoDescription, plain

_MARK = "#:"


def described(kind: type[Any], name: str) -> str:
    """What the comment above a field says, in the class or the nearest base that has the field.

    Raises :class:`NoDescription`.
    """
    for base in kind.__mro__:
        if name in vars(base).get("__annotations__", {}) or (issubclass(kind, Enum) and name in vars(base)):
            comment = _comments(base).get(name, "")
            if comment:
                return comment
            break
    raise NoDescription(f"{kind.__module__}.{kind.__qualname__}.{name} has no `#:` comment above it")


@functools.cache
def _comments(kind: type[Any]) -> dict[str, str]:
    lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
    (tree,) = ast.parse("\n".join(lines)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for statement in tree.body:
        for name in _names(statement):
            found[name] = _above(lines, statement.lineno - 1)
    return found


def _names(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return []


def _above(lines: list[str], at: int) -> str:
    comment: list[str] = []
    while at > 0 and lines[at - 1].strip().startswith(_MARK):
        at -= 1
        comment.insert(0, lines[at].strip().removeprefix(_MARK).strip())
    return plain(" ".join(comment))
