"""What a renderer takes of its PC besides memory: space of the disk, files, processes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from render_tasks.blender.memory import tree_of
from sheepfold.units import bytes_text

from .levels import RenderLimits

_BLOCK_BYTES = 512


#: A folder that cannot be looked into: it is closed, or its path is longer than any may be. No honest renderer has one.
_CLOSED = (errno.EACCES, errno.ENAMETOOLONG)


@dataclass(frozen=True, kw_only=True)
class DiskUse:
    """What a renderer has on the disk."""

    bytes: int
    #: Files and folders that have a name; counted no further than was asked for.
    files: int
    #: There are files that cannot be counted.
    has_closed: bool


def too_many_processes(count: int, limits: RenderLimits) -> str:
    """Why a render must end that has so many processes, for a person; empty while it may have them."""
    if count <= limits.processes:
        return ""
    return f"stopped: it had {count} processes, and a render may have {limits.processes}"


def too_much_on_disk(pid: int, folder: Path, limits: RenderLimits) -> str:
    """Why a render must end because of its files, nameless ones included; empty while they are within the limits."""
    used = disk_use(folder, limits.files)
    if used.files > limits.files:
        return f"stopped: it made more than {limits.files} files"
    if used.has_closed:
        return "stopped: it made a folder that nobody can look into, closed or too deep"
    held = used.bytes + _nameless_bytes(pid)
    if held > limits.disk_bytes:
        most = bytes_text(limits.disk_bytes)
        return f"stopped: its files took {bytes_text(held)}, and a render on this PC may take {most}"
    return ""


def disk_use(folder: Path, most_files: int) -> DiskUse:
    """What lies in a folder, looked at until more than ``most_files`` were found. No link is followed."""
    taken, files, has_closed, folders = 0, 0, False, [str(folder)]
    while folders and files <= most_files:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    files += 1
                    if files > most_files:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    taken += _bytes_of(entry)
        except OSError as error:  # else it is gone meanwhile
            has_closed |= error.errno in _CLOSED
    return DiskUse(bytes=taken, files=files, has_closed=has_closed)


def _bytes_of(entry: os.DirEntry[str]) -> int:
    """What it takes of the disk. Raises OSError where that cannot be known."""
    try:
        return entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
    except FileNotFoundError:
        return 0


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    # Gone meanwhile, or closed to us.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from entries


def _nameless_bytes(pid: int) -> int:
    """Of files without a name, which take space for as long as a process has them open (Linux)."""
    return sum(size for member in tree_of(pid) for size in _nameless_of(member))


def _nameless_of(pid: int) -> Iterator[int]:
    for entry in _entries(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            about = entry.stat()
            if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                yield about.st_blocks * _BLOCK_BYTES
