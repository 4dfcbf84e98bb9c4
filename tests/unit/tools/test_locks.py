"""The locks fit pyproject.toml, and say so where they do not."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement

from tools import locks

PYPROJECT = tomllib.loads((locks.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", locks.EXTRAS)
def test_a_lock_holds_every_dependency_in_a_version_that_is_allowed(name: str) -> None:
    lock = (locks.LOCKS / name).read_text(encoding="utf-8")
    assert locks.misfits(lock, locks.wanted(PYPROJECT, locks.EXTRAS[name])) == []


def test_the_tools_own_lock_holds_the_tools() -> None:
    lock = (locks.LOCKS / locks.SUPPLY).read_text(encoding="utf-8")
    assert locks.misfits(lock, map(Requirement, PYPROJECT["dependency-groups"]["supply"])) == []


@pytest.mark.parametrize("name", [*locks.EXTRAS, locks.SUPPLY])
def test_a_lock_names_no_package_index(name: str) -> None:
    lock = (locks.LOCKS / name).read_text(encoding="utf-8")
    assert "://" not in lock
    assert "--index" not in lock


def test_what_is_missing_or_too_old_is_told() -> None:
    lock = "rich==12.0 \\\n    --hash=sha256:00\n"
    wrong = locks.misfits(lock, [Requirement("rich>=13"), Requirement("typer")])
    assert wrong == ["rich>=13: the lock has 12.0; run `make lock`", "typer: the lock has none; run `make lock`"]


@pytest.mark.parametrize("entry", ["rich==13.0", "rich>=13 \\\n    --hash=sha256:00"])
def test_an_entry_without_hash_or_version_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="rich"):
        list(locks.entries(entry))
