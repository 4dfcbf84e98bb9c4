"""The renderer's log of every attempt that failed, kept for the operator after the server has been told.

::

    <state>/logs/<lease id>.<attempt>.log    reason, PC and frame on top, then what the renderer printed

The oldest go when there are too many or they take too much space. A log that cannot be written is a warning
and nothing else: the lease goes on without it.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from coordinator.leases.lease import Lease
from sheepfold.atomic_files import prepare_folder, write_atomically
from sheepfold.contract.api_messages import FailureReport

log = logging.getLogger(__name__)

#: A job that fails everywhere leaves a few hundred; enough for weeks of single failures.
MAX_LOGS = 2000
MAX_BYTES = 256 * 1024**2
SUFFIX = ".log"


class FailureLogs:
    """A folder with one log for each failed attempt; the oldest go when it is full. Thread-safe."""

    def __init__(self, folder: Path, *, max_logs: int = MAX_LOGS, max_bytes: int = MAX_BYTES) -> None:
        self._folder, self._max_logs, self._max_bytes = folder, max_logs, max_bytes
        self._lock = threading.Lock()
        #: Name → bytes, oldest first.
        self._sizes: dict[str, int] = {}

    def open(self) -> FailureLogs:
        """Makes the folder, or finds the logs that are in it; returns itself."""
        prepare_folder(self._folder)
        found = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
        self._sizes = {path.name: path.stat().st_size for path in found}
        return self

    def put(self, lease: Lease, report: FailureReport, node_name: str) -> Path | None:
        """Keeps the log of the lease's current attempt; ``None`` where the disk does not take it."""
        path = self._folder / f"{lease.id}.{lease.attempt}{SUFFIX}"
        head = f"{lease.label}, job {lease.offer.job_id}, attempt {lease.attempt} on {node_name or 'an unknown PC'}"
        text = f"{report.kind.value}: {report.reason}\n{head}\n\n{report.log}\n"
        try:
            self._write(path, text.encode("utf-8", "replace"))
        except OSError as error:
            log.warning("the renderer's log of %s could not be written to the state folder: %s", lease.label, error)
            return None
        return path

    def last_of(self, lease: Lease) -> Path | None:
        """The log of the lease's latest attempt that failed."""
        with self._lock:
            numbers = [attempt for attempt in range(1, lease.attempt + 1) if self._name(lease, attempt) in self._sizes]
        return self._folder / self._name(lease, numbers[-1]) if numbers else None

    @staticmethod
    def _name(lease: Lease, attempt: int) -> str:
        return f"{lease.id}.{attempt}{SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        write_atomically(path, data)
        with self._lock:
            self._sizes.pop(path.name, None)
            self._sizes[path.name] = len(data)
            while len(self._sizes) > self._max_logs or sum(self._sizes.values()) > self._max_bytes:
                oldest = next(iter(self._sizes))
                del self._sizes[oldest]
                (self._folder / oldest).unlink(missing_ok=True)
