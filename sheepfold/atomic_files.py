"""Files that are whole or not there: written under a passing name, synced, and renamed when complete.

The spool and the archive store both keep such files; a crash leaves passing names only, which :func:`prepare_folder`
removes at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Generator
from pathlib import Path

from .errors import DiskFull, TooLarge
from .units import bytes_text

PASSING_PREFIX = ".incoming-"
#: Left free for the ledger and the system.
RESERVE_BYTES = 512 * 1024 * 1024
#: Free space is looked at again after each of these.
LOOK_EVERY_BYTES = 64 * 1024 * 1024


class IncomingFile:
    """A file that is being received. Its MD5 is summed up while it is written.

    It has as much of a binary file's interface as a download needs: ``write``, ``tell``, ``flush``, and ``seek(0)``
    with ``truncate()`` to begin again.
    """

    def __init__(self, folder: Path, *, limit_bytes: int | None = None, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._folder, self._limit, self._reserve = folder, limit_bytes, reserve_bytes
        self._path = folder / f"{PASSING_PREFIX}{uuid.uuid4().hex}"
        self._begin_again()
        check_room(folder, reserve_bytes)
        self._file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)

    def _begin_again(self) -> None:
        self._sum = hashlib.md5(usedforsecurity=False)
        self.size = 0
        self._look_at = LOOK_EVERY_BYTES

    @property
    def md5(self) -> str:
        """Of what was written so far, lower-case hex."""
        return self._sum.hexdigest()

    def write(self, chunk: bytes) -> int:
        """Raises :class:`TooLarge` or :class:`DiskFull`."""
        if self._limit is not None and self.size + len(chunk) > self._limit:
            raise TooLarge(self._limit)
        if self.size + len(chunk) > self._look_at:
            check_room(self._folder, self._reserve)
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
        """Nothing is held back."""

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
            sync_folder(self._folder)
        return final

    def discard(self) -> None:
        """Leave nothing behind; after :meth:`keep_as` this does nothing."""
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def receiving(
    folder: Path, *, limit_bytes: int | None = None, reserve_bytes: int = RESERVE_BYTES
) -> Generator[IncomingFile]:
    """A :class:`IncomingFile` that is gone afterwards unless it was kept."""
    with full_disk_is_typed(folder):
        passing = IncomingFile(folder, limit_bytes=limit_bytes, reserve_bytes=reserve_bytes)
    try:
        yield passing
    finally:
        passing.discard()


def prepare_folder(folder: Path) -> None:
    """Make the folder, for its owner alone, and remove what a crash left in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for leftover in folder.glob(f"{PASSING_PREFIX}*"):
        leftover.unlink(missing_ok=True)


def check_room(folder: Path, reserve_bytes: int) -> None:
    """Raises :class:`DiskFull` when less than the reserve is free."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < reserve_bytes:
        raise DiskFull(folder, f"{bytes_text(reserve_bytes)} are kept free and {bytes_text(free_bytes)} are")


@contextlib.contextmanager
def full_disk_is_typed(folder: Path) -> Generator[None]:
    """Turns the system's ways of saying "no room" into :class:`DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(folder) from error
        raise


def sync_folder(folder: Path) -> None:
    """A rename lasts only once its folder is on disk; Windows does this by itself and cannot open folders."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
