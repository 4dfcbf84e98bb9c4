"""Archives the farm fetched: once each, verified, within a quota. Nodes get them from the archive server.

::

    <md5>           one archive, whole and verified; its time stamp is its last use
    .incoming-*     one that is being fetched; removed at the next start

Threads that want the same archive share one download. When the store is over its quota, or the disk runs full, the
longest unused go, but never one that an active lease needs (``pinned``).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, cast

from sheepfold.atomic_files import RESERVE_BYTES, IncomingFile, prepare_folder, receiving
from sheepfold.contract.orders import ArchiveRef
from sheepfold.sharing.pieces import BlockSums, all_of, piece_bytes_of, pieces_in
from sheepfold.sharing.shared_archive import SharedArchive

from .errors import ArchiveMismatch, BadMd5
from .manifests import MOST_KEPT, PieceHashes

log = logging.getLogger(__name__)

#: A download may be damaged on its way; after this many the server's archive itself is.
DOWNLOAD_TRIES = 3

_MD5 = re.compile(r"[0-9a-f]{32}")


class ArchiveStore:
    """The archives on this machine. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int,
        pinned: Callable[[], Collection[str]] = tuple,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> None:
        self._folder, self._quota, self._reserve = folder, quota_bytes, reserve_bytes
        self._pinned = pinned
        #: Bytes that came from the server, those of downloads that failed included.
        self.bytes_fetched = 0
        self._lock = threading.Lock()
        self._fetching: dict[str, Future[ArchiveRef]] = {}
        #: The server said to drop them while a lease still needed them.
        self._doomed: set[str] = set()
        #: md5 → bytes, longest unused first.
        self._sizes: dict[str, int] = {}
        #: md5 → its pieces, of archives that came in since the start, the latest last.
        self._hashes: dict[str, PieceHashes] = {}

    def open(self) -> ArchiveStore:
        """Makes the folder, or finds the archives that are in it; returns itself."""
        prepare_folder(self._folder)
        files = [(path.stat(), path.name) for path in self._folder.iterdir() if _MD5.fullmatch(path.name)]
        self._sizes = {name: stat.st_size for stat, name in sorted(files, key=lambda entry: entry[0].st_mtime)}
        return self

    def ensure(self, md5: str, fetch: Callable[[BinaryIO], None]) -> ArchiveRef:
        """The archive, fetched if it isn't here.

        ``fetch`` writes it to the file it is given; to begin again it seeks to 0. Callers that ask meanwhile wait, and
        get the same archive or the same error. Raises :class:`ArchiveUnavailable`,
        :class:`~sheepfold.errors.DiskFull` and whatever ``fetch`` raises.
        """
        md5 = checked(md5)
        with self._lock:
            self._doomed.discard(md5)
            if held := self._touch(md5):
                return held
            under_way = self._fetching.get(md5)
            mine = under_way is None
            future = self._fetching.setdefault(md5, Future())
        if mine:
            self._fetch_for_all(md5, fetch, future)
        return future.result()

    def path_of(self, md5: str) -> Path | None:
        """Where the archive lies, and it counts as used; ``None`` when it isn't here."""
        with self._lock:
            held = self._touch(checked(md5))
        return self._folder / held.md5 if held else None

    def shared(self, md5: str) -> SharedArchive | None:
        """What an archive server may hand out: an archive is whole and right, or not here."""
        path = self.path_of(md5)
        if path is None:
            return None
        try:
            size = path.stat().st_size
        except OSError:
            return None
        piece_bytes = piece_bytes_of(size)
        return SharedArchive(path=path, size=size, piece_bytes=piece_bytes, pieces=all_of(pieces_in(size, piece_bytes)))

    def hashes_of(self, md5: str) -> PieceHashes | None:
        """What its pieces are told by, where it came in lately: they were summed up on the way."""
        with self._lock:
            return self._hashes.get(md5)

    def held(self) -> list[str]:
        """The archives here, except those the server no longer wants us to have."""
        with self._lock:
            return sorted(self._sizes.keys() - self._doomed)

    def delete(self, md5: str) -> None:
        """Drop an archive now, or as soon as no lease needs it."""
        with self._lock:
            if checked(md5) in self._sizes:
                self._doomed.add(md5)
                self._drop_doomed()

    def throw_away(self, md5: str) -> None:
        """Drop an archive whatever needs it: it is damaged, and will be fetched again."""
        with self._lock:
            self._drop(checked(md5))

    def tidy(self) -> None:
        """Drop what the server no longer wants and what is over the quota."""
        self._tidy(spared="")

    def _tidy(self, spared: str) -> None:
        with self._lock:
            self._drop_doomed()
            self._drop_surplus(spared)

    def _fetch_for_all(self, md5: str, fetch: Callable[[BinaryIO], None], future: Future[ArchiveRef]) -> None:
        try:
            size = self._fetch(md5, fetch)
            with self._lock:
                self._sizes[md5] = size
            # Whoever wanted it wants to use it, even where it alone is over the quota.
            self._tidy(spared=md5)
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            future.set_result(ArchiveRef(md5=md5, size=size))
        finally:
            with self._lock:
                del self._fetching[md5]

    def _fetch(self, md5: str, fetch: Callable[[BinaryIO], None]) -> int:
        self._free_space()
        got = ""
        for _ in range(DOWNLOAD_TRIES):
            with receiving(self._folder, reserve_bytes=self._reserve) as passing:
                summed = _Summed(passing, self._count)
                fetch(cast("BinaryIO", summed))
                got = passing.md5
                if got == md5:
                    self._remember(md5, PieceHashes.of(summed.sums, passing.size))
                    passing.commit(md5)
                    return passing.size
            log.warning("archive %s arrived with MD5 %s; fetching it again", md5, got)
        raise ArchiveMismatch(md5, got, DOWNLOAD_TRIES)

    def _remember(self, md5: str, hashes: PieceHashes) -> None:
        with self._lock:
            self._hashes.pop(md5, None)
            self._hashes[md5] = hashes
            while len(self._hashes) > MOST_KEPT:
                del self._hashes[next(iter(self._hashes))]

    def _count(self, count: int) -> None:
        with self._lock:
            self.bytes_fetched += count

    def _touch(self, md5: str) -> ArchiveRef | None:
        if md5 not in self._sizes:
            return None
        try:
            os.utime(self._folder / md5)
        except OSError:
            log.warning("archive %s is gone from the disk; it is downloaded again when needed", md5)
            del self._sizes[md5]
            return None
        self._sizes[md5] = size = self._sizes.pop(md5)
        return ArchiveRef(md5=md5, size=size)

    def _free_space(self) -> None:
        with self._lock:
            for md5 in self._evictable():
                if shutil.disk_usage(self._folder).free >= self._reserve:
                    return
                self._drop(md5)

    def _drop_doomed(self) -> None:
        for md5 in self._doomed - frozenset(self._pinned()):
            self._drop(md5)

    def _drop_surplus(self, spared: str) -> None:
        for md5 in self._evictable():
            if md5 == spared or sum(self._sizes.values()) <= self._quota:
                return
            self._drop(md5)

    def _evictable(self) -> list[str]:
        pinned = frozenset(self._pinned())
        return [md5 for md5 in self._sizes if md5 not in pinned]

    def _drop(self, md5: str) -> None:
        try:
            (self._folder / md5).unlink(missing_ok=True)
        except OSError as error:
            # Windows: it is being sent right now. The next call of tidy() removes it.
            log.info("archive %s cannot be removed yet: %s", md5, error)
            return
        self._sizes.pop(md5, None)
        self._doomed.discard(md5)
        log.info("archive %s removed", md5)


class _Summed:
    """A passing file that also sums up the archive's pieces and counts its bytes."""

    def __init__(self, passing: IncomingFile, count: Callable[[int], None]) -> None:
        self._passing, self._count = passing, count
        self.sums = BlockSums()

    def tell(self) -> int:
        return self._passing.tell()

    def flush(self) -> None:
        self._passing.flush()

    def writable(self) -> bool:
        return self._passing.writable()

    def truncate(self, size: int | None = None) -> int:
        return self._passing.truncate(size)

    def write(self, chunk: bytes) -> int:
        self._count(len(chunk))
        written = self._passing.write(chunk)
        self.sums.update(chunk)
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._passing.seek(offset, whence)
        self.sums = BlockSums()
        return 0


def checked(md5: str) -> str:
    """The MD5 as it names a file; raises :class:`BadMd5`."""
    if not _MD5.fullmatch(md5.lower()):
        raise BadMd5(md5)
    return md5.lower()
