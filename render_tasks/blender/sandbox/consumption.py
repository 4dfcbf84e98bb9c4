"""What a renderer takes of its PC besides memory: space of the disk, files, processes."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from render_tasks.blender.memory import tree_of
from sheepfold.units import bytes_text

from .levels import RenderLimits

_BLOCK_BYTES = 512


@dataclass(frozen=True, kw_only=True)
class DiskUse:
    """What a renderer has on the disk."""

    bytes: int
    #: Files and folders that have a name; counted no further than was asked for.
    files: int


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
    held = used.bytes + _nameless_bytes(pid)
    if held > limits.disk_bytes:
        most = bytes_text(limits.disk_bytes)
        return f"stopped: its files took {bytes_text(held)}, and a render on this PC may take {most}"
    return ""


def disk_use(folder: Path, most_files: int) -> DiskUse:
    """What lies in a folder, looked at until more than ``most_files`` were found. No link is followed."""
    taken, files, folders = 0, 0, [str(folder)]
    while folders and files <= most_files:
        for entry in _entries(folders.pop()):
            files += 1
            if files > most_files:
                break
            with contextlib.suppress(OSError):
                taken += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return DiskUse(bytes=taken, files=files)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    # Gone meanwhile, or closed to us.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from entries


def _nameless_bytes(pid: int) -> int:
    """Of files without a name, which take space for as long as a process has them open (Linux)."""
    return sum(size for process in tree_of(pid) for size in _nameless_of(process))


def _nameless_of(process: psutil.Process) -> Iterator[int]:
    for entry in _entries(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(OSError):
            about = entry.stat()
            if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                yield about.st_blocks * _BLOCK_BYTES
