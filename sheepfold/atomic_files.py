"""Files that are whole or not there: written under a temporary name, synced, renamed, and their folder synced.

:func:`write_atomically` for what is in memory, :func:`atomically_replaced` for what a library writes to a path,
:class:`IncomingFile` for what arrives in pieces, :func:`rename_durably` for what is whole already. A crash leaves
temporary names only, which :func:`prepare_folder` removes at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from .errors import DiskFull, TooLarge
from .units import bytes_text

TEMPORARY_PREFIX = ".incoming-"
#: Left free for the ledger and the system.
RESERVE_BYTES = 512 * 1024 * 1024
#: Free space is looked at again after each of these.
LOOK_EVERY_BYTES = 64 * 1024 * 1024
#: A tree of more files than this is synced with everything else of the machine: faster than one by one.
SYNCED_ONE_BY_ONE = 64
#: For the owner alone.
PRIVATE_MODE = 0o600
_DISK_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


class IncomingFile:
    """A file that is being received. Its MD5 is summed up while it is written.

    It has as much of a binary file's interface as a download needs: ``write``, ``tell``, ``flush``, and ``seek(0)``
    with ``truncate()`` to begin again.
    """

    def __init__(self, folder: Path, *, limit_bytes: int | None = None, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._folder, self._limit, self._reserve = folder, limit_bytes, reserve_bytes
        self._path = _temporary(folder)
        self._begin_again()
        check_free_space(folder, reserve_bytes)
        self._file = os.fdopen(_create(self._path, PRIVATE_MODE), "wb", buffering=0)

    def _begin_again(self) -> None:
        self._sum = hashlib.md5(usedforsecurity=False)
        self.size = 0
        self._look_at = LOOK_EVERY_BYTES

    @property
    def md5(self) -> str:
        """Of what was written so far, lower-case hex."""
        return self._sum.hexdigest()

    def write(self, chunk: bytes) -> int:
        """Appends all of it, and returns its length; raises :class:`TooLarge` or :class:`DiskFull`."""
        if self._limit is not None and self.size + len(chunk) > self._limit:
            raise TooLarge(self._limit)
        if self.size + len(chunk) > self._look_at:
            check_free_space(self._folder, self._reserve)
            self._look_at += LOOK_EVERY_BYTES
        with full_disk_is_typed(self._folder):
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._sum.update(chunk)
        self.size += len(chunk)
        return len(chunk)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """Does nothing: every write is with the operating system when it returns."""

    def tell(self) -> int:
        return self.size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Only back to the start, which forgets what was written."""
        if offset or whence != os.SEEK_SET:
            raise OSError(errno.ESPIPE, "a file that is being received can only begin again")
        self._file.seek(0)
        self._file.truncate()
        self._begin_again()
        return 0

    def truncate(self, size: int | None = None) -> int:
        """Only where the file ends anyway."""
        if size not in (None, self.size):
            raise OSError(errno.EINVAL, "a file that is being received can only begin again")
        return self.size

    def commit(self, name: str) -> Path:
        """On disk for good under its final name, replacing what was there."""
        final = self._folder / name
        with full_disk_is_typed(self._folder):
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.replace(final)
            sync(self._folder)
        return final

    def discard(self) -> None:
        """Leave nothing behind; after :meth:`commit` this does nothing."""
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def receiving(
    folder: Path, *, limit_bytes: int | None = None, reserve_bytes: int = RESERVE_BYTES
) -> Generator[IncomingFile]:
    """A :class:`IncomingFile` that is gone afterwards unless it was committed."""
    with full_disk_is_typed(folder):
        incoming = IncomingFile(folder, limit_bytes=limit_bytes, reserve_bytes=reserve_bytes)
    try:
        yield incoming
    finally:
        incoming.discard()


def write_atomically(path: Path, content: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """``content`` is at ``path``, on disk for good, or what was there before; nobody sees a part of it.

    The file has ``mode`` from its first byte on. Raises ``OSError`` and leaves no temporary file.
    """
    with atomically_replaced(path, mode=mode) as part:
        part.write_bytes(content)


def write_all_atomically(folder: Path, contents: Mapping[str, bytes], *, mode: int = PRIVATE_MODE) -> None:
    """:func:`write_atomically` for many files of one folder, by name; on disk for good when this returns.

    A thousand synced one by one take ten seconds and more. After an error some are there and others are not.
    """
    parts = {name: _temporary(folder) for name in contents}
    try:
        for name, part in parts.items():
            with os.fdopen(_create(part, mode), "wb") as file:
                file.write(contents[name])
        sync_files(list(parts.values()))
        for name, part in parts.items():
            part.replace(folder / name)
        sync(folder)
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomically_replaced(final: Path, *, mode: int = PRIVATE_MODE) -> Generator[Path]:
    """An empty file beside ``final`` to write to, with its suffix; it takes the name ``final`` at the end, durably.

    Whatever is raised meanwhile removes it and leaves ``final`` as it was.
    """
    part = _temporary(final.parent, final.suffix)
    os.close(_create(part, mode))
    try:
        yield part
        rename_durably(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def rename_durably(whole: Path, final: Path) -> None:
    """Gives a file, or a folder whose files are synced, its name on the same disk; it lasts when this returns."""
    sync(whole)
    whole.replace(final)
    sync(final.parent)


def prepare_folder(folder: Path) -> None:
    """Make the folder, for its owner alone, and remove what a crash left in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def check_free_space(folder: Path, reserve_bytes: int) -> None:
    """Raises :class:`DiskFull` when less than the reserve is free."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < reserve_bytes:
        raise DiskFull(folder, f"{bytes_text(reserve_bytes)} are kept free and {bytes_text(free_bytes)} are")


def is_disk_full(error: OSError) -> bool:
    """Whether the system says that no space is left: no free blocks, or a quota used up."""
    return error.errno in _DISK_FULL


@contextlib.contextmanager
def full_disk_is_typed(folder: Path) -> Generator[None]:
    """Turns the system's ways of saying "no space" into :class:`DiskFull`."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(folder) from error
        raise


def sync(path: Path) -> None:
    """A file's content, or the names in a folder, are on disk. Windows keeps names by itself and opens no folders."""
    is_windows = os.name == "nt"
    if is_windows and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if is_windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Everything below ``folder`` is on disk, symbolic links not followed; on Windows this does nothing."""
    if not hasattr(os, "sync"):
        return
    sync_files([Path(parent, name) for parent, _, names in os.walk(folder) for name in [".", *names]])


def sync_files(paths: Sequence[Path]) -> None:
    """What these files and folders hold is on disk, symbolic links not followed."""
    if len(paths) > SYNCED_ONE_BY_ONE and hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        if not path.is_symlink():
            sync(path)


def _temporary(folder: Path, suffix: str = "") -> Path:
    return folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{suffix}"


def _create(path: Path, mode: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
