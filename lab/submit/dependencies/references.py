"""What a .blend asks for: a reference is one path stored in one .blend, and the files it stands for.

Which paths Blender resolves to which files:

=======  ==============================================================================================
file     the path itself
frames   every file that differs from it in its last number only (image sequences, clips, volumes)
tiles    every file with a number in place of ``<UDIM>`` or ``<UVTILE>``
folder   everything below it (fluid, ocean and particle caches)
matches  every file that begins and ends as the name around its ``*`` does (disk caches)
listed   the files of these names in the folder (image strips of the sequencer)
=======  ==============================================================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_TILE_NUMBERS = {"<UDIM>": r"\d{4}", "<UVTILE>": r"u\d+_v\d+"}


class Kind(StrEnum):
    """How the stored path stands for files."""

    FILE = "file"
    FRAMES = "frames"
    TILES = "tiles"
    FOLDER = "folder"
    MATCHES = "matches"
    LISTED = "listed"


@dataclass(frozen=True, kw_only=True)
class Field:
    """Where in a .blend (uncompressed) a path is stored, in bytes."""

    offset: int
    #: With the zero byte at the end.
    capacity: int
    #: Of ``Kind.LISTED``: this field holds one of the names; empty: it holds the folder.
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A file, or a set of files, that one .blend names."""

    blend: Path
    #: As Blender wrote it; ``//`` is the folder of the .blend.
    stored: bytes
    #: Absolute; of ``Kind.LISTED`` the folder.
    path: Path
    kind: Kind = Kind.FILE
    #: Of ``Kind.LISTED``.
    names: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    #: ``False``: no picture changes when it is not there.
    used: bool = True

    def files(self) -> list[Path]:
        """The files that are there, sorted."""
        return sorted(path for path in self._candidates() if path.is_file())

    def absent(self) -> list[Path]:
        """What is asked for and not there, as a person would look for it."""
        if self.kind is Kind.LISTED:
            return [self.path / name for name in self.names if not (self.path / name).is_file()]
        return [] if self.files() else [self.path]

    def _candidates(self) -> Iterator[Path]:
        if self.kind is Kind.FILE:
            yield self.path
        elif self.kind is Kind.LISTED:
            yield from (self.path / name for name in self.names)
        elif self.kind is Kind.FOLDER:
            for folder, _, names in os.walk(self.path):
                yield from (Path(folder, name) for name in names)
        else:
            matches = _name_pattern(self.kind, self.path.name)
            yield from (self.path.with_name(name) for name in _names_in(self.path.parent) if matches.fullmatch(name))


def absolute_path(stored: bytes, blend: Path) -> Path:
    """Where Blender looks for a stored path. Any bytes are a name, as they are on a disk."""
    plain = stored.replace(b"\\", b"/")
    text = os.fsdecode(plain.removeprefix(b"//") if plain.startswith(b"//") else plain)
    if re.match(r"[A-Za-z]:/", text) and os.name != "nt":
        return Path(text)  # of a Windows PC: nothing here has this path
    return Path(os.path.normpath(blend.parent / (text.lstrip("/") if plain.startswith(b"//") else text)))


def _name_pattern(kind: Kind, name: str) -> re.Pattern[str]:
    if kind is Kind.MATCHES:
        before, _, after = name.partition("*")
        return re.compile(f"{re.escape(before)}.*{re.escape(after)}", re.DOTALL)
    if kind is Kind.TILES:
        parts = re.split("(<UDIM>|<UVTILE>)", name)
        return re.compile("".join(_TILE_NUMBERS.get(part) or re.escape(part) for part in parts), re.DOTALL)
    stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
    numbered = re.fullmatch(r"(.*?)(\d+)(\D*)", stem, re.DOTALL)
    if numbered is None:
        return re.compile(re.escape(name))
    return re.compile(rf"{re.escape(numbered[1])}\d+{re.escape(numbered[3] + dot + suffix)}", re.DOTALL)


def _names_in(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []
