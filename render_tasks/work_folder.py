"""The folder a worker lives in: one process at a time, one node identity for good.

::

    node-id      UUID of this node; whoever has the folder is the node
    lock         locked while a worker runs
    archives/    :mod:`render_tasks.archives`
    outbox/      :mod:`render_tasks.outbox`
    scratch/     one folder per attempt, emptied at start
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import IO

from .errors import WorkFolderTaken


class WorkFolder:
    """An open work folder; keep it for as long as the worker runs."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path / "lock")
        self.path = path
        self.archives = path / "archives"
        self.outbox = path / "outbox"
        self.scratch = path / "scratch"
        shutil.rmtree(self.scratch, ignore_errors=True)
        for folder in (self.archives, self.outbox, self.scratch):
            folder.mkdir(exist_ok=True)
        self.node_id = _identity(path / "node-id")

    def close(self) -> None:
        """Lets another worker in."""
        self._lock.close()


def _locked(path: Path) -> IO[str]:
    file = path.open("a")
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        file.close()
        raise WorkFolderTaken(f"another worker uses {path.parent}: give each worker its own") from None
    return file


def _identity(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return str(uuid.UUID(path.read_text("ascii").strip()))
    node_id = str(uuid.uuid4())
    fresh = path.with_suffix(".new")
    fresh.write_text(node_id, "ascii")
    fresh.replace(path)
    return node_id
