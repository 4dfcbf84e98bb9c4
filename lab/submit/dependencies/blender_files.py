"""Asks Blender itself which files a scene wants, and compares them with what is packed.

Blender opens the packed scene, not the original: what it cannot find there, no PC of the farm would find. The scene's
own scripts do not run, and the run is bounded (:mod:`lab.submit.dependencies.bounded_run`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil

from lab.errors import NoAnswerFromBlender, NoBlender
from sheepfold.blender import ask_version, find_blender, why_not_found

from .archive_plan import ArchivePlan
from .bounded_run import run_bounded
from .references import Kind, Reference, absolute_path
from .trace import stored_at

LISTING = Path(__file__).with_name("list_files.py")
#: A large scene takes a minute to open.
OPEN_LIMIT_S = 300


@dataclass(frozen=True, kw_only=True)
class WantedFile:
    """A file as Blender asked for it when it opened the packed scene."""

    #: The .blend that names it.
    blend: Path
    stored: bytes
    path: Path
    kind: Kind
    names: tuple[str, ...]
    used: bool


def local_blender() -> str:
    """The Blender of this PC (:mod:`sheepfold.blender`); raises :class:`NoBlender`."""
    found = find_blender()
    if found is None:
        raise NoBlender(why_not_found())
    return str(found)


def installed_blender() -> str | None:
    """As :func:`local_blender`; ``None`` where there is none."""
    found = find_blender()
    return str(found) if found else None


def version_of(blender: str) -> tuple[int, int]:
    """What ``blender --version`` says, (3, 4); raises :class:`NoBlender`."""
    version = ask_version(Path(blender))
    if not version:
        raise NoBlender(f"{blender} does not say that it is a Blender: let SHEEPFOLD_BLENDER name one that starts")
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def wanted_files(blender: str, plan: ArchivePlan) -> tuple[list[WantedFile], Path]:
    """What Blender asks for when it opens the packed scene, and the folder that it was packed in.

    Raises :class:`NoAnswerFromBlender`.
    """
    with tempfile.TemporaryDirectory(prefix="sheepfold-check-") as name:
        folder = Path(name).resolve()
        packed, home = folder / "packed", folder / "home"
        packed.mkdir()
        home.mkdir()
        blends = folder / "blends"
        blends.mkdir()
        files = plan.write_blends(blends)
        for target, source in files.items():
            _link(packed / target, source)
        # Pictures are not opened: what Blender has to read is .blends.
        reads = [packed, blends, *(path for path in files.values() if path.suffix.lower() == ".blend")]
        # Of our own: the script, and the Python that the launcher of a bpy wheel needs.
        reads += [plan.blend, Path(__file__).parents[3], Path(sys.prefix), Path(sys.base_prefix)]
        return _ask(blender, packed / plan.scene, home, reads), packed


def _link(place: Path, source: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(source)
    except OSError:  # Windows lets only some users make links
        shutil.copyfile(source, place)


def _ask(blender: str, scene: Path, home: Path, reads: list[Path]) -> list[WantedFile]:
    answer = home / "answer.json"
    command = [blender, "--background", "--factory-startup", "--disable-autoexec", "-noaudio", str(scene)]
    command += ["--python-exit-code", "1", "--python", str(LISTING), "--", str(scene), str(answer)]
    memory = psutil.virtual_memory().total
    try:
        ended = run_bounded(command, home, reads=reads, limit_s=OPEN_LIMIT_S, memory_bytes=memory)
    except OSError as error:
        raise NoAnswerFromBlender(f"{blender} cannot be started: {error.strerror}") from None
    if ended.code is None:
        raise NoAnswerFromBlender(f"{blender} did not open the scene within {OPEN_LIMIT_S} s")
    try:
        found = json.loads(answer.read_text(encoding="utf-8"))["files"]
        return [_wanted(entry) for entry in found]
    except (OSError, ValueError, KeyError, TypeError):
        last = ended.said.splitlines()[-1][:200] if ended.said else "it said nothing"
        raise NoAnswerFromBlender(f"{blender} ended with exit code {ended.code}: {last}") from None


def _wanted(entry: Mapping[str, object]) -> WantedFile:
    names = entry["names"]
    return WantedFile(
        blend=Path(str(entry["blend"])),
        stored=os.fsencode(str(entry["stored"])),
        path=Path(str(entry["path"])),
        kind=Kind(str(entry["kind"])),
        names=tuple(str(name) for name in cast("list[object]", names)) if isinstance(names, list) else (),
        used=entry["used"] is True,
    )


def not_held(plan: ArchivePlan, wanted: Iterable[WantedFile], packed: Path) -> list[Reference]:
    """What Blender wants and does not find in the archive, as references of the original scene."""
    found: list[Reference] = []
    for file in wanted:
        target = _inside(file.path, packed)
        if target is None or not plan.holds(target, file.kind, file.names):
            found.append(_original(plan, file, packed, target))
    return found


def _original(plan: ArchivePlan, file: WantedFile, packed: Path, target: str | None) -> Reference:
    owner = plan.source(_inside(file.blend, packed) or "") or plan.blend
    stored = file.stored
    if target is not None and Path(os.fsdecode(stored)).is_absolute():  # Blender's own list has no stored paths
        stored = b"//" + os.fsencode(target)
    source = plan.source(target) if target is not None else None
    path = source or absolute_path(stored, owner)
    names = tuple(name for name in file.names if target is None or f"{target}/{name}".lstrip("/") not in plan.files)
    return Reference(
        blend=owner,
        stored=stored,
        path=path,
        kind=file.kind,
        names=names,
        fields=stored_at(owner, stored),
        used=file.used,
    )


def _inside(path: Path, packed: Path) -> str | None:
    return path.relative_to(packed).as_posix().removeprefix(".") if path.is_relative_to(packed) else None
