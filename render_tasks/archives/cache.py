"""The node's renderers and scenes, unpacked and ready, by key; and what other nodes may have of their archives.

A renderer is one archive, and so is a scene, or it comes in parts: then each part is an archive of its own, which is
kept as it came, and the scene is unpacked from all of them through one file
(:mod:`render_tasks.archives.chunked_file`). Versions of a scene share the parts that did not change.

Everything appears under its final name by one rename, after the MD5 sums were right, everything was unpacked and the
disk has it. Two slots that need the same fetch it once. At most :data:`FETCHES_AT_ONCE` archives are fetched and
unpacked at a time: orders that only look ahead must not slow the disk and the network of frames being rendered.

While an archive is on its way here, and afterwards as long as it is kept as it came, :meth:`~ArchiveCache.shared` says
what of it may be sent to other nodes (:mod:`sheepfold.sharing.archive_server`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Protocol

from render_tasks.errors import AttemptDropped, BadArchive, BadOrder, CacheDiskFull
from sheepfold.atomic_files import is_disk_full, sync_tree
from sheepfold.contract.api_messages import ArchiveManifest
from sheepfold.contract.orders import MD5_NAME, ArchiveRef, scene_key
from sheepfold.sharing.pieces import all_of, piece_bytes_of, pieces_in
from sheepfold.sharing.shared_archive import SharedArchive
from sheepfold.units import bytes_text

from .cache_dir import CacheDir
from .chunked_file import open_parts
from .extraction import Limits, declared_bytes, extract
from .partial_archive import PartialArchive, md5_of

log = logging.getLogger(__name__)

#: How often all pieces may be right and the whole wrong: once or twice it is the manifest's fault, then the archive's.
TRIES = 3
#: Archives that are fetched and unpacked at the same time.
FETCHES_AT_ONCE = 2
_LOOK_EVERY_S = 0.2


class Supply(Protocol):
    """Fetches archives that are not on this PC (:class:`render_tasks.archives.swarm.Swarm`)."""

    def plan(self, ref: ArchiveRef) -> ArchiveManifest: ...
    def fill(self, arriving: PartialArchive, stopped: Callable[[], bool]) -> None: ...


class ArchiveCache:
    """One folder of archives; threads share it, processes do not."""

    def __init__(
        self,
        folder: Path,
        supply: Supply,
        *,
        quota_bytes: int,
        share: bool = True,
        limits: Limits | None = None,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        on_evict: Callable[[Path], None] = lambda _folder: None,
    ) -> None:
        """``on_evict`` is called before an archive is evicted: a program that still runs from it must end first."""
        self._supply, self._share, self._limits, self._quota = supply, share, limits or Limits(), quota_bytes
        self._dir = CacheDir(folder, quota_bytes=quota_bytes, free_bytes=free_bytes, on_evict=on_evict)
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._fetch_slots = threading.BoundedSemaphore(FETCHES_AT_ONCE)
        self._arriving: dict[str, PartialArchive] = {}
        #: MD5 sums of parts on the disk that were right when this process looked.
        self._verified: set[str] = set()

    def held(self) -> tuple[str, ...]:
        """Keys of the renderers and scenes that are unpacked here."""
        return self._dir.unpacked()

    def free_space(self, wanted_bytes: int) -> None:
        """Evicts what nobody uses until quota and disk have that much space."""
        self._dir.free_space(wanted_bytes)

    def require_space(self, wanted_bytes: int) -> None:
        """The same; raises CacheDiskFull where the disk still lacks it (1: only the space that renders need)."""
        self._dir.require_space(wanted_bytes)

    def using(self, *wanted: Sequence[ArchiveRef]) -> contextlib.AbstractContextManager[None]:
        """Keeps renderers and scenes, each given by its archives, from being evicted, also those still to come."""
        md5s = [[ref.md5 for ref in refs] for refs in wanted]
        return self._dir.using({scene_key(parts): parts if len(parts) > 1 else () for parts in md5s})

    def shares(self) -> tuple[str, ...]:
        """MD5 sums of the archives that other nodes can have from here, whole."""
        return self._dir.zipped() if self._share else ()

    def shared(self, md5: str) -> SharedArchive | None:
        """What other nodes may have of an archive right now."""
        arriving = self._arriving.get(md5)
        if arriving is not None or not self._share:
            return arriving.shared() if arriving and self._share else None
        found = self._dir.zip_of(md5)
        if found is None:
            return None
        path, size = found
        piece_bytes = piece_bytes_of(size)
        return SharedArchive(path=path, size=size, piece_bytes=piece_bytes, pieces=all_of(pieces_in(size, piece_bytes)))

    def ensure(
        self, refs: Sequence[ArchiveRef], stopped: Callable[[], bool] = lambda: False, *, password: str = ""
    ) -> Path:
        """The folder of what these archives, joined in their order, hold; fetched first where it is not there.

        Raises BadArchive, CacheDiskFull, BadOrder (one of them is not named by an MD5) and whatever the fetch raises.
        """
        if not refs or not all(MD5_NAME.fullmatch(ref.md5) for ref in refs):
            raise BadOrder("an archive is not named by an MD5")
        key = scene_key([ref.md5 for ref in refs])
        with _held(self._lock_of(key), stopped, "another slot fetched the archive"):
            folder = self._dir.folder / key
            if not folder.is_dir():
                with _held(self._fetch_slots, stopped, "other archives were fetched"):
                    self._bring(key, refs, password, stopped)
            os.utime(folder)
            return folder

    def _lock_of(self, what: str) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(what, threading.Lock())

    def _bring(self, key: str, refs: Sequence[ArchiveRef], password: str, stopped: Callable[[], bool]) -> None:
        try:
            if len(refs) == 1:
                self._bring_whole(refs[0], password, stopped)
            else:
                self._bring_in_parts(key, refs, password, stopped)
        except OSError as error:
            if is_disk_full(error):
                folder = self._dir.folder
                raise CacheDiskFull(f"the disk of {folder} filled up while archive {key} was fetched") from None
            raise

    def _bring_whole(self, ref: ArchiveRef, password: str, stopped: Callable[[], bool]) -> None:
        with self._dir.place() as work:
            archive, content = work / "archive", work / "content"
            self._dir.require_space(ref.size)
            with self._arrived(ref, archive, stopped) as is_worth_sharing:
                self._unpack([archive], content, password, stopped)
                if not is_worth_sharing:
                    archive.unlink()
                sync_tree(work)
                self._dir.put(ref.md5, content, archive if is_worth_sharing else None)

    def _bring_in_parts(self, key: str, refs: Sequence[ArchiveRef], password: str, stopped: Callable[[], bool]) -> None:
        with self._dir.using({key: [ref.md5 for ref in refs]}), self._dir.place() as work:
            parts = [self._part(ref, stopped) for ref in refs]
            self._unpack(parts, work / "content", password, stopped)
            sync_tree(work)
            self._dir.put(key, work / "content", None)

    def _part(self, ref: ArchiveRef, stopped: Callable[[], bool]) -> Path:
        """A part as it came, fetched first where it is not here."""
        # Not the lock of a whole archive of that MD5: whoever holds that one may wait for a fetch slot, which we hold.
        with _held(self._lock_of(f"part {ref.md5}"), stopped, "another slot fetched a part of the scene"):
            found = self._dir.zip_of(ref.md5)
            if found and self._is_right(ref.md5, found[0], stopped):
                return found[0]
            with self._dir.place() as work:
                self._dir.require_space(ref.size)
                with self._arrived(ref, work / "archive", stopped):
                    sync_tree(work)
                    self._verified.add(ref.md5)
                    return self._dir.put_part(ref.md5, work / "archive")

    def _is_right(self, md5: str, path: Path, stopped: Callable[[], bool]) -> bool:
        """Whether a part still is what came; of what an earlier process left the disk may have lost something."""
        if md5 not in self._verified and md5_of(path, stopped) != md5:
            log.warning("archive %s is damaged on the disk and is fetched again", md5)
            self._dir.drop(md5)
            return False
        self._verified.add(md5)
        return True

    def _unpack(self, parts: Sequence[Path], content: Path, password: str, stopped: Callable[[], bool]) -> None:
        with open_parts(parts) as archive:
            claimed = declared_bytes(archive, self._limits)
            if claimed > self._quota:
                raise BadArchive(_over_quota(claimed, self._quota))
            self._dir.require_space(claimed)
            content.mkdir()
            extract(archive, content, self._limits, stopped, password)

    @contextlib.contextmanager
    def _arrived(self, ref: ArchiveRef, path: Path, stopped: Callable[[], bool]) -> Generator[bool]:
        """The archive, whole and verified; inside the block other nodes may have it. Says whether that is worth it."""
        found = ""
        for _ in range(TRIES):
            plan = self._supply.plan(ref)
            arriving = PartialArchive(path, plan)
            self._arriving[ref.md5] = arriving
            try:
                self._supply.fill(arriving, stopped)
                arriving.close()
                found = arriving.md5(stopped)
                if found == ref.md5:
                    # What is one piece long is had from the coordinator before a node has been asked for it.
                    yield self._share and len(plan.sums) > 1
                    return
            finally:
                arriving.close()
                self._arriving.pop(ref.md5, None)
            log.warning("archive %s came with MD5 %s: it is fetched again", ref.md5, found)
        raise BadArchive(f"archive {ref.md5} came {TRIES} times with another MD5, last {found}")


def _over_quota(claimed: int, quota: int) -> str:
    return (
        f"unpacked it would hold {bytes_text(claimed)}, and this PC keeps {bytes_text(quota)} of archives at most: "
        "where that is too little, raise SHEEPFOLD_CACHE_GB"
    )


@contextlib.contextmanager
def _held(lock: threading.Lock | threading.Semaphore, stopped: Callable[[], bool], while_what: str) -> Generator[None]:
    while not lock.acquire(timeout=_LOOK_EVERY_S):
        if stopped():
            raise AttemptDropped(f"stopped while {while_what}")
    try:
        yield
    finally:
        lock.release()
