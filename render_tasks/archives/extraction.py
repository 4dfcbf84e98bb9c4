"""Unpacks an untrusted zip into an empty folder.

The archive comes from a server on the internet, so every entry is looked at before anything is written:

* its name stays inside the folder: no absolute path, drive letter, ``..`` or NUL, whichever slash it uses;
* it is a file, a folder or a link, not too deep, and packed by a method whose memory is bounded
  (:mod:`sheepfold.archives.zips`);
* the zip's table of contents alone says what an entry is, of locked ones too (:mod:`render_tasks.archives.locked_zip`);
* links are made last, so no entry can be written through one, and must point inside the folder, chains included;
* the number of entries is checked before Python reads the table of contents; the bytes that it claims are checked
  before anything is written, and again while it is: a claim that is too small ends the extraction where it is passed.

Bad time stamps don't matter (none is set), doubled names end as the last one, and every file gets its execute bit: zips
packed on Windows know none, and a renderer consists of more than one executable.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from render_tasks.errors import AttemptDropped, BadArchive, CacheDiskFull
from sheepfold.archives.zips import (
    MAX_ENTRIES,
    MAX_TABLE_BYTES,
    trouble_with_method,
    trouble_with_path,
    trouble_with_table,
)
from sheepfold.atomic_files import is_disk_full

from .locked_zip import LockedEntries, is_locked, method_of

CHUNK_BYTES = 1024 * 1024
#: Error numbers that say something of this PC and nothing of what is written.
THIS_PC = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
#: A link's target is a path.
_MAX_LINK_BYTES = 4096
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """More than any honest archive holds."""

    bytes: int = 100 * 1000**3
    #: Of files, links and folders, those that only stand in paths included.
    entries: int = MAX_ENTRIES
    #: Of the zip's table of contents, which Python reads into memory at once.
    directory_bytes: int = MAX_TABLE_BYTES


def extract(
    archive: BinaryIO,
    folder: Path,
    limits: Limits,
    stopped: Callable[[], bool] = lambda: False,
    password: str = "",
) -> None:
    """Unpacks ``archive``, a file that can be read at any place, into the existing, empty ``folder``.

    Raises BadArchive (:class:`~render_tasks.errors.ArchiveLocked` where ``password`` does not open it), CacheDiskFull,
    OSError where this PC is at fault, or AttemptDropped when ``stopped`` turns true; what is in the folder then is
    worthless.
    """
    try:
        _check_directory(archive, limits)
        with zipfile.ZipFile(archive) as packed:
            _claimed_bytes(packed, limits)
            entries = [(entry, _inside(entry)) for entry in packed.infolist()]
            _extract_all(_Contents(packed, LockedEntries(archive, password)), entries, folder, limits, stopped)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        ArithmeticError,
        struct.error,
    ) as error:
        raise BadArchive(f"the archive cannot be read: {error}") from None
    except OSError as error:
        raise _told_apart(error) from None


def _told_apart(error: OSError) -> Exception:
    if is_disk_full(error):
        return CacheDiskFull("the disk filled up while an archive was unpacked")
    if error.errno in THIS_PC:
        return error
    return BadArchive(f"the archive cannot be unpacked: {os.strerror(error.errno or 0)}")


def declared_bytes(archive: BinaryIO, limits: Limits) -> int:
    """What the zip's table of contents claims to hold; :func:`extract` writes no byte more.

    Raises BadArchive, also where that is more than ``limits`` allow.
    """
    try:
        _check_directory(archive, limits)
        with zipfile.ZipFile(archive) as packed:
            return _claimed_bytes(packed, limits)
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, ArithmeticError) as error:
        raise BadArchive(f"the archive cannot be read: {error}") from None


def _claimed_bytes(packed: zipfile.ZipFile, limits: Limits) -> int:
    total = sum(entry.file_size for entry in packed.infolist())
    if total > limits.bytes:
        raise BadArchive(f"the archive claims to hold {total} bytes, more than {limits.bytes}")
    return total


def _check_directory(file: BinaryIO, limits: Limits) -> None:
    if trouble := trouble_with_table(file, entries=limits.entries, table_bytes=limits.directory_bytes):
        raise BadArchive(f"the archive is not unpacked: {trouble}")


def _inside(entry: zipfile.ZipInfo) -> Path | None:
    """The entry's path relative to the folder, ``None`` for the folder itself."""
    name = entry.orig_filename.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if "\0" in name or name.startswith("/") or _DRIVE.match(name) or ".." in parts:
        raise BadArchive(f"the archive holds a path that leads out of it: {name[:200]!r}")
    if trouble := trouble_with_path("/".join(parts)):
        raise BadArchive(f"the archive is not unpacked: {trouble}")
    if os.name == "nt" and ":" in name:
        raise BadArchive(f"the archive holds a name Windows cannot keep: {name[:200]!r}")
    return Path(*parts) if parts else None


def _kind(entry: zipfile.ZipInfo) -> int:
    if trouble := trouble_with_method(method_of(entry)):
        raise BadArchive(f"the archive is not unpacked: {trouble}")
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == 3 else 0
    if entry.orig_filename.endswith(("/", "\\")):
        return stat.S_IFDIR
    if kind in (0, stat.S_IFREG):
        return stat.S_IFREG
    if kind in (stat.S_IFDIR, stat.S_IFLNK):
        return kind
    raise BadArchive(f"the archive holds something that is no file, folder or link: {entry.orig_filename[:200]!r}")


class _Contents:
    """What the entries of an open zip hold."""

    def __init__(self, packed: zipfile.ZipFile, locked: LockedEntries) -> None:
        self._packed, self._locked = packed, locked

    def chunks(self, entry: zipfile.ZipInfo) -> Generator[bytes]:
        """Chunk by chunk, verified when the last one has come."""
        if is_locked(entry):
            yield from self._locked.chunks(entry)
            return
        with self._packed.open(entry) as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk

    def beginning(self, entry: zipfile.ZipInfo, limit: int) -> bytes:
        """At most ``limit`` bytes, and one more where there are more."""
        found = b""
        with closing(self.chunks(entry)) as chunks:
            for chunk in chunks:
                found += chunk[: limit + 1 - len(found)]
                if len(found) > limit:
                    break
        return found


def _extract_all(
    contents: _Contents,
    entries: list[tuple[zipfile.ZipInfo, Path | None]],
    folder: Path,
    limits: Limits,
    stopped: Callable[[], bool],
) -> None:
    kinds = [_kind(entry) for entry, _ in entries]
    _check_number(entries, limits)
    links: dict[Path, str] = {}
    for (entry, path), kind in zip(entries, kinds, strict=True):
        _go_on(stopped)
        if path is None:
            continue
        target = folder / path
        if kind == stat.S_IFDIR:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == stat.S_IFLNK:
            links[path] = _link_target(contents, entry)
        else:
            _write(contents, entry, target, stopped)
    _make_links(folder, links)


def _check_number(entries: list[tuple[zipfile.ZipInfo, Path | None]], limits: Limits) -> None:
    """A path makes its folders, which no entry names: they count, too."""
    made: set[Path] = set()
    for _, path in entries:
        while path is not None and path.parts and path not in made:
            made.add(path)
            path = path.parent
        if len(made) > limits.entries:
            raise BadArchive(f"the archive holds more than {limits.entries} files and folders")


def _write(contents: _Contents, entry: zipfile.ZipInfo, target: Path, stopped: Callable[[], bool]) -> None:
    """Not one byte more than the table of contents claims."""
    left = entry.file_size
    with target.open("wb") as file:
        for chunk in contents.chunks(entry):
            left -= len(chunk)
            if left < 0:
                raise BadArchive(f"the archive holds more than it claims: {entry.orig_filename[:200]!r}")
            _go_on(stopped)
            file.write(chunk)
    target.chmod(0o755)


def _go_on(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise AttemptDropped("stopped while an archive was unpacked")


def _link_target(contents: _Contents, entry: zipfile.ZipInfo) -> str:
    raw = contents.beginning(entry, _MAX_LINK_BYTES)
    target = raw.decode("utf-8", "surrogateescape")
    if not raw or len(raw) > _MAX_LINK_BYTES or "\0" in target:
        raise BadArchive(f"the archive holds a link without a usable target: {entry.orig_filename[:200]!r}")
    return target


def _make_links(folder: Path, links: dict[Path, str]) -> None:
    root = folder.resolve()
    for path, target in links.items():
        _check_stays_inside(path, target)
        place = folder / path
        if place.is_symlink() or place.exists():
            raise BadArchive(f"the archive holds two things of one name: {str(path)[:200]!r}")
        if not place.parent.resolve().is_relative_to(root):
            raise BadArchive(f"the archive holds a link that leads out of it: {str(path)[:200]!r}")
        _link(place, target)
    for path in links:
        place = folder / path
        resolved = _resolved(place)
        if resolved is None:
            raise BadArchive(f"the archive holds a link that leads nowhere: {str(path)[:200]!r}")
        if not resolved.is_relative_to(root):
            raise BadArchive(f"the archive holds a link that leads out of it: {str(path)[:200]!r}")


def _resolved(link: Path) -> Path | None:
    """Where a chain of links ends; ``None`` for a loop, at which Python 3.13 stops without an error."""
    try:
        end = link.resolve()
        return None if end.is_symlink() else end
    except (OSError, RuntimeError):
        return None


def _check_stays_inside(path: Path, target: str) -> None:
    """By name alone, before the link exists; chains are resolved once all are made."""
    depth = len(path.parts) - 1
    if target.startswith(("/", "\\")) or _DRIVE.match(target):
        depth = -1
    for part in target.replace("\\", "/").split("/"):
        if depth < 0:
            break
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
    if depth < 0:
        raise BadArchive(f"the archive holds a link that leads out of it: {str(path)[:200]!r}")


def _link(place: Path, target: str) -> None:
    try:
        place.symlink_to(target)
    except OSError:  # Windows lets only some users make links: a copy does
        source = place.parent / target
        if source.is_file():
            shutil.copy2(source, place)
