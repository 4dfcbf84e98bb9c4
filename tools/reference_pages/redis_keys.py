"""The page of Redis keys, from the tables at the top of the modules that own them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from .markdown import NoDescription, code, page, plain, table

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sheepfold", "coordinator", "render_tasks", "lab")
#: `key   type   meaning`, at least two blanks between them, as the owners write it.
_ROW = re.compile(
    r"^ {4}(?P<key>(?:sheepfold:|farm\.)\S.*?) {2,}(?P<kind>hash|list|string|zset|set|stream) {2,}(?P<text>\S.*)$"
)
_MORE = re.compile(r"^ {16,}(?P<text>\S.*)$")
_KEY = re.compile(r"sheepfold:[a-z][a-z:-]*")

INTRODUCTION = """
What the farm keeps in Redis. None of it is truth: what became of a frame is in the [ledger](../explanation/lease.md),
and a Redis that comes back empty costs time only. Celery adds `_kombu.binding.*` for Flower, and a list for each
priority of a queue (`farm.<node id>:1` and so on). Which user may do what with them is in
[Use a Redis of your own](../how-to/redis.md#users).
"""


def page_text() -> str:
    """The whole page; raises NoDescription for a key in the code that no table tells of."""
    rows = [row for module, tree in _modules() for row in _rows(module, ast.get_docstring(tree, clean=False) or "")]
    # A key that ends with what differs (`<node id>`) is known by what it begins with.
    told = {code(key.strip("`").partition("<")[0]) for key, *_ in rows}
    for module, tree in _modules():
        for key in _keys_used(tree):
            if code(key) not in told:
                raise NoDescription(f"{module} uses the Redis key {key}; no table at the top of a module tells of it")
    return page("Redis keys", INTRODUCTION, table(("key", "type", "holds", "owner"), sorted(rows)))


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def _rows(module: str, docstring: str) -> Iterator[tuple[str, str, str, str]]:
    found: re.Match[str] | None = None
    text = ""
    for line in [*docstring.splitlines(), ""]:
        more = _MORE.match(line)
        if found and more:
            text += " " + more["text"]
            continue
        if found:
            yield code(found["key"]), found["kind"], plain(text), code(module)
        found = _ROW.match(line)
        text = found["text"] if found else ""


def _keys_used(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Assign) else None
        if isinstance(value, ast.Constant) and _KEY.fullmatch(str(value.value)):
            yield str(value.value)
