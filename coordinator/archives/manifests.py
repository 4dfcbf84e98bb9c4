"""How archives travel on the LAN: the sum of each piece, made while the archive comes in, or once from the disk.

Nothing of it is kept on disk: what is made anew after a restart cannot be stale. Reading the archive again also shows
whether the disk still has what was fetched; one that has changed is thrown away and fetched again.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sheepfold.digests import file_md5
from sheepfold.sharing.pieces import BlockSums, piece_bytes_of

from .errors import ManifestUnderWay

log = logging.getLogger(__name__)

#: A node that asks for a plan that is still being made is told to ask again after this (seconds).
PLAN_WAIT_S = 2.0
#: Sums of more archives than these are not kept in memory; they are made anew.
MOST_KEPT = 64


@dataclass(frozen=True, kw_only=True)
class PieceHashes:
    """What tells right pieces of one archive from wrong ones."""

    #: Bytes.
    size: int
    piece_bytes: int
    #: Of each piece, lower-case hex.
    sums: tuple[str, ...]

    @classmethod
    def of(cls, sums: BlockSums, size: int) -> PieceHashes:
        """From the sums of an archive that came in whole."""
        piece_bytes = piece_bytes_of(size)
        return cls(size=size, piece_bytes=piece_bytes, sums=sums.of_pieces(piece_bytes))


class ArchiveFiles(Protocol):
    """The archives as files, by MD5 (:class:`coordinator.archives.store.ArchiveStore`)."""

    def path_of(self, md5: str, /) -> Path | None: ...
    def hashes_of(self, md5: str, /) -> PieceHashes | None: ...
    def throw_away(self, md5: str, /) -> None: ...


class ManifestCache:
    """The sums of every archive that was asked for. Thread-safe."""

    def __init__(self, archives: ArchiveFiles) -> None:
        self._archives = archives
        self._lock = threading.Lock()
        self._made: dict[str, Future[PieceHashes | None]] = {}
        #: One reader: two would only share the disk.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="piece-hashes")

    def of(self, md5: str) -> PieceHashes | None:
        """``None`` when the archive is not here (any more). Raises ManifestUnderWay, OSError."""
        path = self._archives.path_of(md5)
        if path is None:
            self._forget(md5)
            return None
        if known := self._archives.hashes_of(md5):
            return known
        with self._lock:
            made = self._made.get(md5)
            if made is None:
                made = self._keep(md5, self._pool.submit(self._read, md5, path))
        try:
            found = made.result(PLAN_WAIT_S)
        except TimeoutError:
            raise ManifestUnderWay from None
        except OSError:
            self._forget(md5)
            raise
        if found is None:
            self._forget(md5)
        return found

    def close(self) -> None:
        """Reads no further archives; one that is being read is read to its end. Does not wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self, md5: str, made: Future[PieceHashes | None]) -> Future[PieceHashes | None]:
        self._made[md5] = made
        while len(self._made) > MOST_KEPT:
            del self._made[next(iter(self._made))]
        return made

    def _forget(self, md5: str) -> None:
        with self._lock:
            self._made.pop(md5, None)

    def _read(self, md5: str, path: Path) -> PieceHashes | None:
        sums, lengths = BlockSums(), list[int]()

        def take(chunk: bytes) -> None:
            sums.update(chunk)
            lengths.append(len(chunk))

        if file_md5(path, take) != md5:
            log.error("archive %s is damaged on the disk: it is deleted and downloaded again", md5)
            self._archives.throw_away(md5)
            return None
        return PieceHashes.of(sums, sum(lengths))
