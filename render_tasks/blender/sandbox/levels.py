"""How well a renderer is kept in, and what an operator asks for. Pure.

::

    bubblewrap   namespaces: the renderer sees a file system of its own with its scene in it, no network, no other
                 process, and dies with its worker
    landlock     the kernel's file rules and a filter of system calls, for containers and systems without user
                 namespaces: the same files are open to it, it reaches no network and signals nobody outside; it sees
                 that other files and processes exist, and shares /tmp's space and the user's limit of processes
    none         a renderer may do what its worker may do

They are tried in this order (:mod:`render_tasks.blender.sandbox.probe`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from render_tasks.settings import SandboxChoice


class Level(StrEnum):
    """How well a renderer is kept in."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    NONE = "none"


def levels_of(choice: SandboxChoice) -> tuple[Level, ...]:
    """The levels that an operator's choice is content with, the best first."""
    match choice:
        case SandboxChoice.REQUIRED:
            return Level.BUBBLEWRAP, Level.LANDLOCK
        case SandboxChoice.PREFERRED:
            return Level.BUBBLEWRAP, Level.LANDLOCK, Level.NONE
        case SandboxChoice.OFF:
            return (Level.NONE,)
        case SandboxChoice.BUBBLEWRAP | SandboxChoice.LANDLOCK:
            return (Level(choice.value),)


@dataclass(frozen=True, kw_only=True)
class RenderLimits:
    """Most that one renderer with all its processes may take of its PC."""

    #: Bytes of its folder, and of any file in it.
    disk_bytes: int
    #: Bytes of ``/tmp`` and of ``/dev/shm``, each, which lie in memory; under bubblewrap only.
    shared_memory_bytes: int = 256 * 1024**2
    #: Files and folders in its folder.
    files: int = 100_000
    #: Processes; Blender is one, and a script may start some for each thread of the PC.
    processes: int = 32
    #: Processes and threads together. Blender has a few threads for each of the PC's, and each library its own.
    tasks: int = 96
    open_files: int = 8192


def limits_on(cpus: int, disk_bytes: int) -> RenderLimits:
    """The limits on a PC with so many threads."""
    return RenderLimits(disk_bytes=disk_bytes, processes=32 + 2 * cpus, tasks=96 + 16 * cpus)
