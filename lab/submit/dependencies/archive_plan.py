"""Under which name each file goes into the archive, and which stored paths have to be rewritten for it.

Files of the scene's own folder keep their place, others go below ``_outside_project``; a name that some PC cannot keep
becomes one that every PC does. The .blends themselves are copied and their stored paths overwritten in place: nothing
else in them changes, so every Blender reads them as before. The same scene gives the same bytes every time.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blender_asset_tracer import blendfile

from lab.archive_names import is_too_long, one_line, portable, portable_scene, short_hash, shortened
from lab.errors import BadScene

from .references import Field, Kind, Reference

_OUTSIDE = "_outside_project"
_PIECE = 1024 * 1024


class ArchivePlan:
    """Which file goes where in the archive; made once from all references, then only read."""

    def __init__(self, blend: Path, references: Iterable[Reference]) -> None:
        self.blend = blend
        self.references = list(references)
        #: Path of the scene inside the archive.
        self.scene = portable_scene(blend.name)
        #: Path inside the archive → the file that goes there.
        self.files: dict[str, Path] = {}
        self._taken: dict[str, Path] = {}
        self._targets: dict[Path, str] = {blend: self.scene}
        self._patterns: dict[str, Kind] = {}
        self._add(self.scene, blend)
        for reference in self.references:
            self._place(reference)
        self._rewrites = self._needed_rewrites()

    def absent(self) -> list[tuple[Path, Reference]]:
        """What is asked for and not there."""
        return [(path, reference) for reference in self.references for path in reference.absent()]

    def holds(self, target: str, kind: Kind, names: tuple[str, ...] = ()) -> bool:
        """Whether all that a path inside the archive stands for is in it."""
        if kind is Kind.LISTED:
            return all(posixpath.join(target, name) in self.files for name in names)
        return target in self.files if kind is Kind.FILE else self._patterns.get(target) is kind

    def source(self, target: str) -> Path | None:
        """Which file goes to this place of the archive."""
        return self.files.get(target)

    def write_blends(self, folder: Path) -> dict[str, Path]:
        """Copies of all .blends that have to change, in ``folder``; the answer is :attr:`files` with them."""
        files = dict(self.files)
        for number, (blend, rewrites) in enumerate(sorted(self._rewrites.items())):
            copy = folder / f"{number}.blend"
            _write_copy(blend, copy, rewrites)
            files[self._targets[blend]] = copy
        return files

    def _place(self, reference: Reference) -> None:
        if reference.kind is Kind.FILE:
            if reference.path.is_file():
                self._add(self._file_target(reference.path), reference.path)
            return
        files = reference.files()
        for path in files:
            self._add(posixpath.join(*self._many_target(reference, path)), path)
        if files and reference.kind is not Kind.LISTED:
            self._patterns[self._pattern(reference)] = reference.kind

    def _pattern(self, reference: Reference) -> str:
        """Where the stored path has to lead."""
        if reference.kind is Kind.FILE:
            return self._file_target(reference.path)
        if reference.kind in (Kind.FOLDER, Kind.LISTED):
            return self._folder_target(reference.path)
        name = reference.path.name
        return posixpath.join(
            self._folder_target(reference.path.parent), name if reference.kind is Kind.MATCHES else portable(name)
        )

    def _many_target(self, reference: Reference, path: Path) -> tuple[str, str]:
        # Blender makes up the names inside a cache itself.
        if reference.kind is Kind.FOLDER:
            return self._folder_target(reference.path), path.relative_to(reference.path).as_posix()
        name = path.name if reference.kind is Kind.MATCHES else portable(path.name)
        return self._folder_target(path.parent), name

    def _folder_target(self, folder: Path) -> str:
        if folder.is_relative_to(self.blend.parent):
            parts = list(folder.relative_to(self.blend.parent).parts)
        else:
            parts = [_OUTSIDE, *(part.strip("/\\") for part in folder.parts)]
        target = "/".join(portable(part) for part in parts if part)
        # Space for the names below it.
        return f"_long/{short_hash(target)}" if target and is_too_long(target + "/" + 40 * "x") else target

    def _file_target(self, path: Path) -> str:
        if path not in self._targets:
            target = posixpath.join(self._folder_target(path.parent), portable(path.name))
            taken = self._taken.get(target.casefold(), path)
            self._targets[path] = shortened(target) if is_too_long(target) or taken != path else target
        return self._targets[path]

    def _add(self, target: str, path: Path) -> None:
        """Two names that differ in case alone are one on Windows."""
        there = self._taken.setdefault(target.casefold(), path)
        if there != path:
            names = f"{one_line(str(there))} and {one_line(str(path))}"
            raise BadScene(f"{names} cannot be told apart in an archive: rename one of them")
        self.files[target] = path

    def _needed_rewrites(self) -> dict[Path, list[tuple[Field, bytes]]]:
        rewrites: dict[Path, list[tuple[Field, bytes]]] = defaultdict(list)
        for reference in self.references:
            if not reference.files() or reference.blend not in self._targets:
                continue
            changes = list(self._changes(reference))
            if changes and not reference.fields:
                raise BadScene(f"{one_line(str(reference.path))} cannot be packed: its path cannot be rewritten")
            for field, text in changes:
                if field.capacity <= len(text):
                    raise BadScene(f"{one_line(str(reference.path))} cannot be packed: its path is too long")
                rewrites[reference.blend].append((field, text))
        return rewrites

    def _changes(self, reference: Reference) -> Iterable[tuple[Field, bytes]]:
        if reference.kind is Kind.MATCHES:
            return
        home = posixpath.dirname(self._targets[reference.blend])
        target = self._pattern(reference)
        if not _leads_to(reference.stored, home, target):
            relative = posixpath.relpath("/" + target, "/" + home)
            text = b"//" + relative.encode() + (b"/" if reference.stored.endswith((b"/", b"\\")) else b"")
            places = [field for field in reference.fields if not field.name] or [Field(offset=0, capacity=0)]
            yield from ((field, text) for field in places)
        for field in reference.fields:
            if field.name and portable(field.name) != field.name:
                yield field, portable(field.name).encode()


def _leads_to(stored: bytes, home: str, target: str) -> bool:
    if not stored.startswith(b"//"):
        return False
    path = posixpath.join("/", home, os.fsdecode(stored[2:]).replace("\\", "/"))
    # Above the archive's own folder there is nothing, also where a path without ".." would be the same.
    return posixpath.normpath(path) == posixpath.normpath("/" + target) and not _climbs_out(stored, home)


def _climbs_out(stored: bytes, home: str) -> bool:
    depth = len([part for part in home.split("/") if part])
    for part in os.fsdecode(stored[2:]).replace("\\", "/").split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            return True
    return False


def _write_copy(blend: Path, copy: Path, rewrites: list[tuple[Field, bytes]]) -> None:
    file: Any = blendfile.open_cached(blend)
    file.fileobj.seek(0)
    with copy.open("wb") as writing:
        shutil.copyfileobj(file.fileobj, writing, _PIECE)
        for field, text in rewrites:
            writing.seek(field.offset)
            writing.write(text.ljust(field.capacity, b"\0"))
