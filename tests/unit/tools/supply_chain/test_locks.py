"""The locks fit pyproject.toml, and say so where they do not."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement

from tools.supply_chain import locks

PYPROJECT = tomllib.loads((locks.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
HASH = "--hash=sha256:" + 64 * "0"


def text_of(name: str) -> str:
    """What a lock of the project says."""
    return (locks.LOCKS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", locks.EXTRAS)
def test_a_lock_holds_every_dependency_in_a_version_that_is_allowed_and_no_other(name: str) -> None:
    assert locks.misfits(text_of(name), locks.wanted(PYPROJECT, locks.EXTRAS[name])) == []


def test_the_tools_own_lock_holds_the_tools() -> None:
    assert locks.misfits(text_of(locks.SUPPLY), map(Requirement, PYPROJECT["dependency-groups"]["supply"])) == []


@pytest.mark.parametrize("name", [*locks.EXTRAS, locks.SUPPLY])
def test_a_lock_names_no_package_index_and_no_folder(name: str) -> None:
    lock = text_of(name)
    assert [word for word in ("://", "--index", "--find-links", " @ ", "file:", "-r ", "-c /") if word in lock] == []


def test_what_is_installed_is_what_was_tested() -> None:
    tested, *smaller = ({*locks.packages(text_of(name))} for name in locks.EXTRAS)
    for lock in smaller:
        assert {(package.name, package.version) for package in lock} <= {
            (package.name, package.version) for package in tested
        }


def test_an_entry_is_read_with_its_marker_its_hashes_and_who_wants_it() -> None:
    lock = (
        f"# made by hand\nTyping_Extensions==4.1 ; python_full_version < '3.13' \\\n    {HASH} \\\n    {HASH}\n"
        f"    # via\n    #   sheepfold (pyproject.toml)\n    #   rich\nsix==1 \\\n    {HASH}\n    # via rich\n"
    )
    first, second = locks.packages(lock)
    assert first == locks.LockedPackage(
        name="typing-extensions",
        version="4.1",
        marker='python_full_version < "3.13"',
        hashes=(64 * "0", 64 * "0"),
        wanted_by=("sheepfold", "rich"),
    )
    assert (second.marker, second.wanted_by) == ("", ("rich",))


def test_what_is_missing_or_too_old_is_told() -> None:
    wrong = locks.misfits(f"rich==12.0 \\\n    {HASH}\n", [Requirement("rich>=13"), Requirement("typer")])
    assert wrong == ["rich>=13: the lock has 12.0; run `make lock`", "typer: the lock has none; run `make lock`"]


def test_what_pyproject_asks_for_no_more_is_told() -> None:
    lock = f"rich==13.0 \\\n    {HASH}\n    # via sheepfold (pyproject.toml)\nsix==1 \\\n    {HASH}\n    # via rich\n"
    assert locks.misfits(lock, []) == ["rich: pyproject.toml does not ask for it; run `make lock`"]


@pytest.mark.parametrize("entry", ["rich==13.0", f"rich>=13 \\\n    {HASH}", "rich==13 \\\n    --hash=sha256:00"])
def test_an_entry_without_hash_or_version_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="rich"):
        list(locks.packages(entry))
