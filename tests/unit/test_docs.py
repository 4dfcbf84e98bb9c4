"""What the documentation names is there: modules, classes, functions, files, threads, locks and packages."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.reference_pages.markdown import NOTE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PACKAGES = ("sheepfold", "coordinator", "render_tasks", "lab")
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]
#: Modules as they were called before, in the decision that records it, and in decisions that are superseded.
HISTORY = {"0008", "0055"}
_REFERENCE = re.compile(rf"`((?:{'|'.join(PACKAGES)}|benchmarks|tools)(?:\.\w+)+)(?<!\.toml)(?<!\.env)(?:\(\))?`")
_FILE = re.compile(
    r"`((?:sheepfold|coordinator|render_tasks|lab|tests|benchmarks|tools|docs)/(?:[\w./-]*(?:\.\w+|/))?)`"
)
#: Words that named things of this project before they got the names of the field.
_FORMER = re.compile(
    r"\b(depots?|forgiven?|forgive|set aside|in hand|hand(?:s|ed)? (?:on|out)|errands?|offices?)\b",
    re.IGNORECASE,
)


def _pages_of_today() -> list[Path]:
    return [page for page in PAGES if page.name[:4] not in HISTORY]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", _pages_of_today(), ids=_name)
def test_every_module_class_and_function_that_a_page_names_exists(page: Path) -> None:
    names = set(_REFERENCE.findall(page.read_text(encoding="utf-8")))
    unknown = sorted(name for name in names if not _exists(name))
    assert not unknown, unknown


@pytest.mark.parametrize("page", _pages_of_today(), ids=_name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    paths = set(_FILE.findall(page.read_text(encoding="utf-8")))
    unknown = sorted(path for path in paths if not (ROOT / path).exists())
    assert not unknown, unknown


@pytest.mark.parametrize("page", _pages_of_today(), ids=_name)
def test_a_page_calls_things_by_their_names_of_today(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if NOTE in text:
        text = ""  # the code's own words
    if page.name == "CHANGELOG.md":  # says what was renamed
        text = text.replace("`sheepfold node forgive`", "").replace('"set aside"', "")
    former = _FORMER.findall(text)
    assert not former, former


def test_every_package_is_told_of_by_the_architecture() -> None:
    text = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    folders = [file.parent for package in PACKAGES for file in (ROOT / package).rglob("__init__.py")]
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    untold = sorted(name for name in names if f"| `{name}` |" not in text)
    assert not untold, untold


def test_every_class_with_a_lock_is_told_of_by_the_page_of_threads() -> None:
    text = (DOCS / "explanation" / "threads.md").read_text(encoding="utf-8")
    untold = sorted(name for name in _classes_with_locks() if f"`{name}`" not in text)
    assert not untold, untold


def test_every_thread_with_a_name_is_told_of_by_the_page_of_threads() -> None:
    text = (DOCS / "explanation" / "threads.md").read_text(encoding="utf-8")
    untold = sorted(name for name in _thread_names() if f"*{name}*" not in text)
    assert not untold, untold


def test_every_thread_that_the_page_of_threads_names_is_in_the_code() -> None:
    text = (DOCS / "explanation" / "threads.md").read_text(encoding="utf-8")
    # Pieces are fetched by threads whose names hold a number.
    gone = set(re.findall(r"^\| \*(.+?)\*", text, re.MULTILINE)) - set(_thread_names()) - {"piece-N"}
    assert not gone, gone


def _exists(dotted: str) -> bool:
    module, rest = _module_of(dotted)
    if module is None:
        return False
    found: Any = module
    for name in rest:
        if not hasattr(found, name):
            # A field without a default is no attribute of its class.
            return name in getattr(found, "__annotations__", {}) and name == rest[-1]
        found = getattr(found, name)
    return True


@functools.cache
def _module_of(dotted: str) -> tuple[Any, tuple[str, ...]]:
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            return importlib.import_module(".".join(parts[:end])), tuple(parts[end:])
        except ModuleNotFoundError:
            continue
    return None, ()


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(file.relative_to(ROOT).with_suffix("").parts), ast.parse(file.read_text(encoding="utf-8"))


def _classes_with_locks() -> Iterator[str]:
    for module, tree in _modules():
        for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            names = (ast.unparse(name) for name in ast.walk(kind) if isinstance(name, ast.Attribute))
            if any(name in ("threading.Lock", "threading.RLock", "threading.Condition") for name in names):
                yield f"{module}.{kind.name}"


def _thread_names() -> Iterator[str]:
    """Of threads, pools and periodic threads whose name is written where they are made."""
    for _, tree in _modules():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            kind = ast.unparse(call.func).rpartition(".")[2]
            if kind in ("Thread", "ThreadPoolExecutor", "PeriodicThread", "KeyedThreadPool"):
                named = [word.value for word in call.keywords if word.arg in ("name", "thread_name_prefix")]
                first = call.args[:1] if kind in ("PeriodicThread", "KeyedThreadPool") else call.args[1:2]
                yield from (name.value for name in (*named, *first) if isinstance(name, ast.Constant))
