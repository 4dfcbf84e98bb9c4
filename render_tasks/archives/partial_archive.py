"""An archive on its way to this node: a file of its full length, and which of its pieces are right."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from render_tasks.errors import AttemptDropped, PeerUnusable
from sheepfold.contract.api_messages import ArchiveManifest
from sheepfold.digests import file_md5
from sheepfold.sharing.pieces import span_of, sum_of
from sheepfold.sharing.shared_archive import SharedArchive


class PartialArchive:
    """Takes pieces from many threads and keeps those that are right."""

    def __init__(self, path: Path, plan: ArchiveManifest) -> None:
        self._path, self.plan = path, plan
        self._lock = threading.Lock()
        self._pieces = 0
        self._file = path.open("wb", buffering=0)
        self._file.truncate(plan.size)

    def shared(self) -> SharedArchive:
        """As much of it as can be sent to other nodes right now."""
        plan = self.plan
        return SharedArchive(path=self._path, size=plan.size, piece_bytes=plan.piece_bytes, pieces=self._pieces)

    def put(self, piece: int, data: bytes | bytearray | memoryview) -> bool:
        """Keeps a piece; ``False`` when it was here already or nobody waits any more.

        Raises PeerUnusable when these are not its bytes, and OSError.
        """
        start, end = span_of(piece, self.plan.size, self.plan.piece_bytes)
        if len(data) != end - start or sum_of(data) != self.plan.sums[piece]:
            raise PeerUnusable(f"piece {piece} of archive {self.plan.md5} is not what the coordinator says it is")
        with self._lock:
            if self._pieces >> piece & 1 or self._file.closed:
                return False
            self._file.seek(start)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._pieces |= 1 << piece
        return True

    def md5(self, stopped: Callable[[], bool]) -> str:
        """Of the whole file as it is on disk. Raises AttemptDropped when ``stopped`` turns true."""
        return md5_of(self._path, stopped)

    def close(self) -> None:
        """Closes the file; later pieces are refused. May be called twice."""
        with self._lock:
            self._file.close()


def md5_of(path: Path, stopped: Callable[[], bool]) -> str:
    """Of a file as it is on disk. Raises AttemptDropped when ``stopped`` turns true, and OSError."""

    def go_on(_chunk: bytes) -> None:
        if stopped():
            raise AttemptDropped("stopped while an archive was checked")

    return file_md5(path, go_on)
