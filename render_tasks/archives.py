"""The node's archives, unpacked and ready, by MD5.

On disk, below ``<work folder>/archives``::

    <md5>/           an archive unpacked to its last file; its time stamp says when it was last used
    .fetch-*         a download or an extraction under way; rubbish once its process is gone
    .gone-*          an archive on its way out

The verified zip itself is not kept: it would double the disk a farm PC needs, for bytes nobody reads again. Serving
archives to other nodes needs those bytes back; it is then a second folder, not a change of this one.

An archive appears under its final name by one rename, after its MD5 was right, everything was unpacked and the disk has
it. Two slots that need the same archive fetch it once. What an attempt :meth:`~ArchiveCache.using` holds is never
thrown out to make room.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from .contract import ArchiveRef
from .errors import AttemptDropped, BadArchive, BadOrder, DiskFull
from .extraction import DISK_FULL, Limits, declared_bytes, extract

log = logging.getLogger(__name__)

#: A wrong MD5 may be a cut cable once or twice; the third time it is the archive.
TRIES = 3
#: Left free for the system and the renders themselves.
SPARE_BYTES = 256 * 1024**2
_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)
_FETCHING, _GOING = ".fetch-", ".gone-"


class Fetch(Protocol):
    """Writes an archive's bytes into a file (:meth:`render_tasks.depot_client.DepotClient.fetch_archive`)."""

    def __call__(self, ref: ArchiveRef, target: BinaryIO, stopped: Callable[[], bool], /) -> None: ...


class _Hashing:
    """A binary file that knows the MD5 of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> int:
        self.md5.update(data)
        return self._file.write(data)


class ArchiveCache:
    """One folder of archives; threads share it, processes do not."""

    def __init__(
        self,
        folder: Path,
        fetch: Fetch,
        *,
        quota_bytes: int,
        limits: Limits | None = None,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        on_leaving: Callable[[Path], None] = lambda _folder: None,
    ) -> None:
        self._folder, self._fetch, self._quota = folder, fetch, quota_bytes
        self._limits, self._free_bytes = limits or Limits(), free_bytes
        #: Told before an archive is thrown out: a program that still runs from it must end first.
        self._on_leaving = on_leaving
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._in_use: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            if left.name.startswith((_FETCHING, _GOING)):
                _remove(left)
        self._sizes = {md5: _size_of(folder / md5) for md5 in self._on_disk()}

    def held(self) -> tuple[str, ...]:
        """MD5 sums of the archives that are ready."""
        with self._lock:
            return tuple(sorted(self._sizes))

    @contextlib.contextmanager
    def using(self, refs: Sequence[ArchiveRef]) -> Iterator[None]:
        """Keeps these archives, present or still to come, from being thrown out."""
        names = [ref.md5 for ref in refs]
        with self._lock:
            self._in_use.update(names)
        try:
            yield
        finally:
            with self._lock:
                self._in_use.subtract(names)
            self.make_room(0)

    def ensure(self, ref: ArchiveRef, stopped: Callable[[], bool] = lambda: False) -> Path:
        """The folder of an unpacked archive, fetched first where it is not there.

        Raises BadArchive, DiskFull, BadOrder (its name is no MD5) and whatever the fetch raises.
        """
        if not _MD5.fullmatch(ref.md5):
            raise BadOrder("an archive is not named by an MD5")
        with self._lock:
            lock = self._locks.setdefault(ref.md5, threading.Lock())
        while not lock.acquire(timeout=0.2):
            if stopped():
                raise AttemptDropped("stopped while another slot fetched the archive")
        try:
            folder = self._folder / ref.md5
            if not folder.is_dir():
                self._bring(ref, folder, stopped)
            os.utime(folder)
            return folder
        finally:
            lock.release()

    def make_room(self, wanted_bytes: int) -> None:
        """Throws out archives nobody uses, the longest unused first, until quota and disk have room."""
        for md5 in self._oldest_first():
            with self._lock:
                over = sum(self._sizes.values()) + wanted_bytes > self._quota
                short = wanted_bytes and self._free_bytes(self._folder) < wanted_bytes + SPARE_BYTES
                if not over and not short:
                    return
                if self._in_use[md5] > 0 or md5 not in self._sizes:
                    continue
                self._on_leaving(self._folder / md5)
                going = self._folder / f"{_GOING}{md5}"
                (self._folder / md5).rename(going)
                del self._sizes[md5]
            log.info("archive %s makes room", md5)
            _remove(going)

    def _bring(self, ref: ArchiveRef, folder: Path, stopped: Callable[[], bool]) -> None:
        work = Path(tempfile.mkdtemp(prefix=_FETCHING, dir=self._folder))
        try:
            self._download(ref, work / "archive", stopped)
            self._want_room(declared_bytes(work / "archive", self._limits))
            (work / "content").mkdir()
            extract(work / "archive", work / "content", self._limits, stopped)
            (work / "archive").unlink()
            size = _size_of(work / "content")
            if hasattr(os, "sync"):  # one call for thousands of files: a PC switched off now keeps whole files
                os.sync()
            with self._lock:
                (work / "content").rename(folder)
                self._sizes[ref.md5] = size
        except OSError as error:
            if error.errno in DISK_FULL:
                raise DiskFull(f"the disk filled up while archive {ref.md5} was fetched") from None
            raise
        finally:
            _remove(work)

    def _download(self, ref: ArchiveRef, path: Path, stopped: Callable[[], bool]) -> None:
        self._want_room(ref.size)
        found = ""
        for _ in range(TRIES):
            with path.open("wb") as file:
                target = _Hashing(file)
                self._fetch(ref, target, stopped)  # type: ignore[arg-type]
                found = target.md5.hexdigest()
                if found == ref.md5 and file.tell() == ref.size:
                    return
            log.warning("archive %s came with MD5 %s", ref.md5, found)
        raise BadArchive(f"archive {ref.md5} came {TRIES} times with another MD5, last {found}")

    def _want_room(self, wanted_bytes: int) -> None:
        self.make_room(wanted_bytes)
        free = self._free_bytes(self._folder)
        if free < wanted_bytes + SPARE_BYTES:
            raise DiskFull(f"{wanted_bytes} bytes are needed for an archive and {free} are free")

    def _oldest_first(self) -> list[str]:
        with self._lock:
            names = list(self._sizes)
        return sorted(names, key=lambda md5: _last_used(self._folder / md5))

    def _on_disk(self) -> list[str]:
        return [path.name for path in self._folder.iterdir() if _MD5.fullmatch(path.name) and path.is_dir()]


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _size_of(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 (thousands of files)
    return total


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
