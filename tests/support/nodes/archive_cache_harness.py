"""A node's archive cache, and a source that counts what it hands out."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

from render_tasks.archives.cache import ArchiveCache
from render_tasks.archives.partial_archive import PartialArchive
from render_tasks.errors import AttemptDropped, CoordinatorUnreachable
from sheepfold.contract.api_messages import ArchiveManifest, ArchiveSources
from sheepfold.contract.orders import ArchiveRef
from sheepfold.sharing.pieces import BLOCK_BYTES, sum_of

#: More than one piece: worth handing on.
LARGE = BLOCK_BYTES + 1000


def plan_of(md5: str, content: bytes) -> ArchiveManifest:
    sums = tuple(sum_of(content[at : at + BLOCK_BYTES]) for at in range(0, len(content), BLOCK_BYTES))
    nowhere = ArchiveSources(coordinator="http://127.0.0.1:9")
    return ArchiveManifest(md5=md5, size=len(content), piece_bytes=BLOCK_BYTES, sums=sums, sources=nowhere)


class CountingSource:
    """A coordinator that counts."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.fetches: list[str] = []
        #: A plan of this is told instead of the archive's own.
        self.instead: list[bytes] = []
        self.rubbish = (b"half", b"rubbish")
        self.error: Exception | None = None
        #: MD5 sums of archives that don't come.
        self.silent_about: set[str] = set()
        self.filling = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def zip(self, size: int, name: str = "file") -> ArchiveRef:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, os.urandom(size))
        return self.has(buffer.getvalue())

    def has(self, content: bytes) -> ArchiveRef:
        ref = ArchiveRef(md5=hashlib.md5(content).hexdigest(), size=len(content))
        self.contents[ref.md5] = content
        return ref

    def plan(self, ref: ArchiveRef) -> ArchiveManifest:
        self.fetches.append(ref.md5)
        return plan_of(ref.md5, self.instead.pop(0) if self.instead else self.contents[ref.md5])

    def fill(self, arriving: PartialArchive, stopped: Callable[[], bool]) -> None:
        self.filling.release()
        while not self.gate.wait(0.01):
            if stopped():
                raise AttemptDropped("stopped")
        if self.error:
            raise self.error
        if arriving.plan.md5 in self.silent_about:
            raise CoordinatorUnreachable("fetch", "away")
        content = next(known for known in (*self.contents.values(), *self.rubbish) if fits(arriving.plan, known))
        for piece in range(len(arriving.plan.sums)):
            arriving.put(piece, content[piece * BLOCK_BYTES : (piece + 1) * BLOCK_BYTES])


def fits(plan: ArchiveManifest, content: bytes) -> bool:
    return plan_of(plan.md5, content).sums == plan.sums


def cache_in(
    folder: Path, source: CountingSource, quota: int = 10**9, free: int = 10**12, *, share: bool = True
) -> ArchiveCache:
    return ArchiveCache(folder, source, quota_bytes=quota, free_bytes=lambda _: free, share=share)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
