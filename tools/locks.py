"""The locks: every dependency by version, with the hash of each file of its release, for pip's ``--require-hashes``.

`make lock` writes them from pyproject.toml with uv, for every Python from 3.11 on and every platform (markers say which
needs what). They name no package index, so pip asks the one that it is told.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).resolve().parent.parent
LOCKS = PROJECT / "locks"
#: Lock → the extras in it. The largest comes first: the others take its versions.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "requirements-test.lock": ("lab", "test"),
    "requirements-lab.lock": ("lab",),
    "requirements.lock": (),
}
SUPPLY = "requirements-supply.lock"
COMPILE = (
    "uv", "pip", "compile", "--quiet", "--no-config", "--universal", "--generate-hashes", "--python-version", "3.11",
    "--no-annotate", "--no-header", "--no-emit-find-links",
)  # fmt: skip


def wanted(project: Mapping[str, Any], extras: Iterable[str]) -> list[Requirement]:
    """What pyproject.toml asks for with these extras, and what builds the package."""
    lines = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in extras:
        lines += project["project"]["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def entries(lock: str) -> Iterator[Requirement]:
    """The requirements of a lock; raises :class:`ValueError` for one without a hash or a version of its own."""
    for entry in lock.replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        line, *hashes = entry.split("--hash=sha256:")
        requirement = Requirement(line.strip())
        if not hashes or [clause.operator for clause in requirement.specifier] != ["=="]:
            raise ValueError(f"{requirement}: wants a version and hashes")
        yield requirement


def misfits(lock: str, requirements: Iterable[Requirement]) -> list[str]:
    """What of the requirements is missing in the lock, or there in a version that they exclude."""
    found: dict[str, list[Version]] = {}
    for entry in entries(lock):
        versions = found.setdefault(canonicalize_name(entry.name), [])
        versions += [Version(clause.version) for clause in entry.specifier]
    wrong: list[str] = []
    for requirement in requirements:
        versions = found.get(canonicalize_name(requirement.name), [])
        if not versions or not all(requirement.specifier.contains(each, prereleases=True) for each in versions):
            wrong.append(f"{requirement}: the lock has {', '.join(map(str, versions)) or 'none'}; run `make lock`")
    return wrong


def main() -> None:
    """Writes all locks; a version stays where pyproject.toml still allows it."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    largest = next(iter(EXTRAS))
    for name, extras in EXTRAS.items():
        chosen = [word for extra in extras for word in ("--extra", extra)]
        constraint = [] if name == largest else ["--constraint", f"locks/{largest}"]
        _compile(name, "pyproject.toml", "-", *chosen, *constraint, text="\n".join(project["build-system"]["requires"]))
    _compile(SUPPLY, "--group", "supply", "-", text="packaging")


def _compile(name: str, *arguments: str, text: str) -> None:
    uv = Path(sys.executable).parent / COMPILE[0]
    command = [str(uv), *COMPILE[1:], *arguments, "--output-file", f"locks/{name}"]
    subprocess.run(command, check=True, cwd=PROJECT, input=text, text=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
