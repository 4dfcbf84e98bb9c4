"""The worker's folder: used by one process at a time, and one node identity for good.

::

    node-secret  proves to the coordinator that this is that node; a copy of the folder has the same one
    node-id      UUID of this node; whoever has the folder is the node, unless a copy of it was there first
    farm         :mod:`render_tasks.startup.pinned_farm`
    membership/  :mod:`render_tasks.membership`
    lock         locked while a worker runs
    archives/    :mod:`render_tasks.archives.cache`
    outbox/      :mod:`render_tasks.orders.outbox`
    scratch/     one folder per attempt, emptied at start
    *.rubbish-*  what lay in the place of one of these and could not be removed; may be deleted

A frame may have left anything here: what is in the way of a start is set aside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import IO

from sheepfold.atomic_files import write_atomically

from .errors import WorkDirTaken, WorkDirUnusable
from .untrusted.files import read_start
from .untrusted.removal import empty_folder, is_plain, real_folder, set_aside

_SECRET = re.compile(r"[0-9a-f]{64}", re.ASCII)


class WorkDir:
    """An open work folder; keep it for as long as the worker runs."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path / "lock")
        self.path = path
        self.archives = path / "archives"
        self.outbox = path / "outbox"
        self.scratch = path / "scratch"
        empty_folder(self.scratch)
        for folder in (self.archives, self.outbox):
            real_folder(folder)
        self.node_id = _identity(path / "node-id")
        #: 64 hexadecimal digits; never logged.
        self.node_secret = _secret(path / "node-secret")

    def take_identity(self, node_id: str) -> None:
        """Writes another node id, kept from now on. Raises OSError."""
        _keep_identity(self.path / "node-id", node_id)
        self.node_id = node_id

    @property
    def installation(self) -> str:
        """Names this folder on this PC.

        A worker that is started anew here has the same name, a copy of the folder has another.
        """
        about = "\n".join((platform.node(), _network_card(), str(self.path.resolve())))
        return hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def close(self) -> None:
        """Unlocks the folder: another worker may use it."""
        self._lock.close()


@contextlib.contextmanager
def unusable_is_typed(path: Path) -> Generator[None]:
    """Turns the system's errors about this folder into :class:`WorkDirUnusable`."""
    try:
        yield
    except OSError as error:
        raise WorkDirUnusable(f"{path} cannot be used: {os.strerror(error.errno or 0)}") from error


def _locked(path: Path) -> IO[str]:
    _must_be_plain(path)
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
        raise WorkDirTaken(path.parent) from None
    return file


def _must_be_plain(path: Path) -> None:
    """What a frame put in the place of one of our files is set aside; a pipe would be waited for."""
    if os.path.lexists(path) and not is_plain(path):
        set_aside(path, "is no plain file")


def _identity(path: Path) -> str:
    _must_be_plain(path)
    with contextlib.suppress(OSError, ValueError):
        return str(uuid.UUID(read_start(path.parent, path.name, most_bytes=100).decode("ascii").strip()))
    node_id = str(uuid.uuid4())
    _keep_identity(path, node_id)
    return node_id


def _secret(path: Path) -> str:
    _must_be_plain(path)
    with contextlib.suppress(OSError, UnicodeError):
        kept = read_start(path.parent, path.name, most_bytes=100).decode("ascii").strip()
        if _SECRET.fullmatch(kept):
            return kept
    secret = secrets.token_hex(32)
    write_atomically(path, secret.encode("ascii"))
    return secret


def _keep_identity(path: Path, node_id: str) -> None:
    write_atomically(path, node_id.encode("ascii"))


def _network_card() -> str:
    """The number of this PC's network card; empty where the system tells none."""
    number = uuid.getnode()
    is_made_up = number >> 40 & 1
    return "" if is_made_up else f"{number:012x}"
