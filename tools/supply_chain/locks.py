"""The locks: every dependency by version, with the hash of each file of its release, for pip's ``--require-hashes``.

`make lock` writes them from pyproject.toml with uv, for every Python from 3.11 on and every platform (markers say which
needs what). They name no package index, so pip asks the one that it is told. Below each package stands who wants it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
LOCKS = PROJECT / "locks"
#: Lock → the extras in it. The largest comes first: the others take its versions.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "requirements-test.lock": ("lab", "test"),
    "requirements-lab.lock": ("lab",),
    "requirements.lock": (),
}
LARGEST = next(iter(EXTRAS))
#: What the tools of this package need, the group `supply` of pyproject.toml.
SUPPLY = "requirements-supply.lock"
#: Wheels alone: no program of a package runs while it is installed.
COMPILE = (
    "pip", "compile", "--quiet", "--no-config", "--universal", "--generate-hashes", "--python-version", "3.11",
    "--only-binary", ":all:", "--no-header", "--no-emit-find-links",
)  # fmt: skip
ENTRY = re.compile(r"^(?=[^\s#])", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")
WANTED_BY = re.compile(r"^ +# +(?:via +)?([\w.-]+)(?: \(pyproject\.toml.*\))?$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class LockedPackage:
    """One version of a package; where Pythons need different ones, a lock holds several."""

    #: As the index spells it, in lower case with hyphens.
    name: str
    version: str
    #: Where it is installed; empty: everywhere.
    marker: str
    #: SHA-256 of each file of the release, lower-case hex.
    hashes: tuple[str, ...]
    #: Names of the packages that need it, `sheepfold` among them; none: it builds sheepfold.
    wanted_by: tuple[str, ...]


def packages(lock: str) -> Iterator[LockedPackage]:
    """What a lock holds, in its order; raises :class:`ValueError` for an entry without a hash or without a version."""
    for entry in filter(str.strip, ENTRY.split(lock)):
        if entry.startswith((" ", "#")):
            continue
        requirement = Requirement(re.split(r"\s*\\\n|\n", entry, maxsplit=1)[0])
        hashes, clauses = tuple(HASH.findall(entry)), list(requirement.specifier)
        if not hashes or [clause.operator for clause in clauses] != ["=="]:
            raise ValueError(f"{requirement}: wants a version and hashes")
        yield LockedPackage(
            name=canonicalize_name(requirement.name),
            version=clauses[0].version,
            marker=str(requirement.marker or ""),
            hashes=hashes,
            wanted_by=tuple(name for name in WANTED_BY.findall(entry) if name != "via"),
        )


def wanted(project: Mapping[str, Any], extras: Iterable[str]) -> list[Requirement]:
    """What pyproject.toml asks for with these extras, and what builds the package."""
    lines = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in extras:
        lines += project["project"]["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def misfits(lock: str, requirements: Iterable[Requirement]) -> list[str]:
    """What is missing in the lock, there in a version that is excluded, or wanted by pyproject.toml no more."""
    found: dict[str, list[LockedPackage]] = {}
    for package in packages(lock):
        found.setdefault(package.name, []).append(package)
    asked = {canonicalize_name(requirement.name): requirement for requirement in requirements}
    wrong: list[str] = []
    for name, requirement in asked.items():
        versions = [package.version for package in found.get(name, [])]
        if not versions or not all(requirement.specifier.contains(each, prereleases=True) for each in versions):
            wrong.append(f"{requirement}: the lock has {', '.join(versions) or 'none'}; run `make lock`")
    for name, entries in found.items():
        if name not in asked and any("sheepfold" in package.wanted_by for package in entries):
            wrong.append(f"{name}: pyproject.toml does not ask for it; run `make lock`")
    return wrong


def main(options: Sequence[str]) -> None:
    """Writes all locks; a version stays where pyproject.toml allows it and no option (``--upgrade``) says otherwise."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    builders = "\n".join(project["build-system"]["requires"])
    for name, extras in EXTRAS.items():
        chosen = [word for extra in extras for word in ("--extra", extra)]
        if name != LARGEST:
            (LOCKS / name).write_bytes((LOCKS / LARGEST).read_bytes())
        _compile(name, "pyproject.toml", "-", *chosen, *(options if name == LARGEST else ()), text=builders)
    _compile(SUPPLY, "--group", "supply", *options, text="")


def _compile(name: str, *arguments: str, text: str) -> None:
    uv = Path(sys.executable).parent / "uv"
    command = [str(uv), *COMPILE, *arguments, "--output-file", f"locks/{name}"]
    subprocess.run(command, check=True, cwd=PROJECT, input=text, text=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(sys.argv[1:])
