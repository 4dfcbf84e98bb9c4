"""The page of the LAN API: paths of nodes as the contract tells them, those of people from the code.

Paths stand in the docstrings of the contract's modules, one in a line: `    GET  /path   what goes in and comes out`.
A path of the API that no such line tells of needs a docstring at its function.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import sheepfold.contract
from coordinator.access.routes import route_of

from .field_comments import described
from .markdown import NoDescription, code, first_paragraph, page, plain, table

API = Path(__file__).resolve().parents[2] / "coordinator" / "api"
MESSAGES = "JSON. A reader passes over fields it does not know and refuses a message that lacks one it needs."
_LINE = re.compile(r"^ {4}(?P<method>GET|POST|PUT|DELETE) +(?P<path>/\S+) {2,}(?P<text>\S.*)$")
_MORE = re.compile(r"^ {12,}(?P<text>\S.*)$")
_METHODS = ("get", "post", "put", "delete")

INTRODUCTION = """
The coordinator's HTTP side on the LAN, and the archive servers of coordinator and nodes. The first column says who may
ask. A node shows the farm token as `Authorization: Bearer <farm token>`, and its own secret beside it for what concerns
one node. A viewer, operator or admin shows the password of that role in the same way, or, for what only reads, signs in
with a login that is called like the role; each may do what those before it may
([Who may do what](../how-to/roles.md)). An archive server wants the archive's own pass instead, which is made of the
farm token.

A refusal is JSON with a `detail`, one line for a person: 401 where nothing was shown or what was shown is wrong, 403
where it is right and another role is needed, 429 after too many wrong ones.

A node reads the status of what it said about a lease like this: 409 drop it, 422 the attempt failed, anything else:
keep it and try again.
"""


def page_text() -> str:
    """Every route, and every message that nodes and coordinator exchange."""
    told = [row for module in _modules() for row in _told(module.__doc__ or "")]
    known = {(method, path.partition("?")[0]) for method, path, _ in told}
    rows = [(_who(method, path), method, code(path), plain(text)) for method, path, text in told]
    people = [
        (_who(method, path), method, code(path), first_paragraph(docstring, f"what answers {method} {path}"))
        for method, path, docstring in _routes()
        if (method, path) not in known
    ]
    return page(
        "LAN API",
        INTRODUCTION,
        "## Nodes and archive servers\n\n" + table(("who", "", "path", "in and out"), rows),
        "## People\n\n" + table(("who", "", "path", "meaning"), people),
        f"## Messages\n\n{MESSAGES}",
        *(_message(kind) for module in _modules() for kind in _kinds(module)),
    )


def _who(method: str, path: str) -> str:
    """The role that the table of routes asks for; an archive server's paths are not in it."""
    route = route_of(method, path.partition("?")[0])
    return route.role.value if route else ""


def _modules() -> list[ModuleType]:
    found = pkgutil.iter_modules(sheepfold.contract.__path__, "sheepfold.contract.")
    return [sheepfold.contract, *(importlib.import_module(module.name) for module in found)]


def _told(docstring: str) -> Iterator[tuple[str, str, str]]:
    row: list[str] = []
    for line in [*docstring.splitlines(), ""]:
        if row and (more := _MORE.match(line)):
            row[2] += " " + more["text"]
            continue
        if row:
            yield row[0], row[1], row[2]
        found = _LINE.match(line)
        row = [found["method"], found["path"], found["text"]] if found else []


def _routes() -> Iterator[tuple[str, str, str | None]]:
    """Method, path and docstring of each function that answers a path."""
    for file in sorted(API.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for method, path in _paths(node):
                    yield method, path, ast.get_docstring(node)


def _paths(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
            path = decorator.args[0] if decorator.args else None
            if decorator.func.attr in _METHODS and isinstance(path, ast.Constant):
                yield decorator.func.attr.upper(), str(path.value)


def _kinds(module: ModuleType) -> list[type[Any]]:
    """The messages and their words, in the order in which the module defines them."""
    found = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    return [kind for kind in found if dataclasses.is_dataclass(kind) or issubclass(kind, Enum)]


def _message(kind: type[Any]) -> str:
    head = f"### {kind.__name__}\n\n{first_paragraph(kind.__doc__, kind.__qualname__)}\n\n"
    if issubclass(kind, Enum):
        return head + table(
            ("value", "meaning"), [(code(member.value), _meaning(kind, member.name)) for member in kind]
        )
    rows = [(code(field.name), code(field.type), _meaning(kind, field.name)) for field in dataclasses.fields(kind)]
    return head + table(("field", "type", "meaning"), rows)


def _meaning(kind: type[Any], name: str) -> str:
    """What a name says by itself needs no comment."""
    try:
        return described(kind, name)
    except NoDescription:
        return ""
