"""Unit tests lie where their source lies: ``tests/unit/PACKAGE/test_MODULE.py`` tests ``PACKAGE/MODULE.py``.

A test file may carry more words behind the module's name (``test_session_waits.py`` is about ``session.py``), and in
the folder of a package it may begin with the package's own name (``protocol/test_protocol_round_trips.py``).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

UNIT = Path(__file__).parent
PROJECT = UNIT.parents[1]
PACKAGES = ("sheepfold", "coordinator", "render_tasks", "lab", "tests", "benchmarks", "tools")
FOLDERS = sorted({file.parent for package in PACKAGES for file in (PROJECT / package).rglob("*.py")})
#: Test files without a source of their own, and why.
WITHOUT_SOURCE = {"test_layout.py": "it is about the tests"}


def subjects(folder: Path) -> set[str]:
    """What a test file may be about, in the mirror of this source folder."""
    modules = {path.stem for path in folder.glob("*.py")}
    packages = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    return modules | packages | ({folder.name} if folder != PROJECT else set())


def is_mirrored(test: Path) -> bool:
    """Whether a path below ``tests/unit`` has a source at the mirrored place."""
    subject = test.stem.removeprefix("test_")
    known = subjects(PROJECT / test.parent)
    return any(subject == name or subject.startswith(f"{name}_") for name in known)


def relative(path: Path) -> str:
    """A path as a test's name shows it."""
    return str(path.relative_to(PROJECT))


def names_in(source: str) -> Iterator[tuple[str, int]]:
    """Every name that the source gives to something, and its line."""
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, line
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, line
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield name, line
            case _:
                pass


def unit_tests() -> list[Path]:
    """Every unit test file, relative to ``tests/unit``."""
    return [path.relative_to(UNIT) for path in sorted(UNIT.rglob("test_*.py"))]


@pytest.mark.parametrize("test", unit_tests(), ids=str)
def test_a_unit_test_lies_where_its_source_lies(test: Path) -> None:
    assert is_mirrored(test) != (str(test) in WITHOUT_SOURCE), f"no source for {test}, or no reason any more"


def test_a_file_without_a_source_is_noticed() -> None:
    assert is_mirrored(Path("coordinator/test_settings.py"))
    assert is_mirrored(Path("coordinator/upstream/test_session_waits.py"))
    assert not is_mirrored(Path("coordinator/test_no_such_module.py"))
    assert not is_mirrored(Path("no_such_package/test_settings.py"))


@pytest.mark.parametrize("test", sorted((PROJECT / "tests").rglob("*.py")), ids=relative)
def test_no_file_of_the_tests_is_longer_than_420_lines(test: Path) -> None:
    assert len(test.read_text(encoding="utf-8").splitlines()) <= 420


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_called_one(package: str) -> None:
    """A variable, a parameter, an attribute and a function are called what they hold or do."""
    found = [
        f"{file.relative_to(PROJECT)}:{line}"
        for file in (PROJECT / package).rglob("*.py")
        for name, line in names_in(file.read_text(encoding="utf-8"))
        if name == "one"
    ]
    assert not found


def test_every_kind_of_name_is_looked_at() -> None:
    source = """
import json as one
from json import loads as one
def one(one): ...
class one: ...
for one in (): one.one = 1
with open("") as one: ...
try: ...
except OSError as one: ...
match 1:
    case one: ...
"""
    assert [name for name, _ in names_in(source)].count("one") == 11
    assert "one" not in [name for name, _ in names_in("rows.one()\nf(one=1)")], "names of others are theirs"


@pytest.mark.parametrize("folder", FOLDERS, ids=relative)
def test_a_folder_holds_at_most_twelve_files(folder: Path) -> None:
    assert len([file for file in folder.glob("*.py") if file.name != "__init__.py"]) <= 12
