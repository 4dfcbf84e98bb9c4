"""Error reports that wait for the server: each a file, on disk before anybody counts on it.

::

    <lease id>.json         a PendingReport
    <lease id>.unreadable   one that could not be read and was set aside
    <lease id>.untold       one that the server did not take, however often it was tried
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from coordinator.leases.lease import Lease
from sheepfold.atomic_files import prepare_folder, write_all_atomically
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.failure_causes import Cause, cause_of
from sheepfold.protocol.error_log import write_error_log
from sheepfold.protocol.messages import UnreadableOffer
from sheepfold.protocol.status import ErrorType

log = logging.getLogger(__name__)

#: Of a renderer's output, this much is worth a server's while (characters, from the end).
REPORT_LOG_CHARS = 200_000

#: What went wrong, in the numbers of later generations. A kind that is not here is unknown to them.
_TYPES: dict[FailureKind, ErrorType] = {
    FailureKind.RENDERER_CRASHED: ErrorType.CRASHED,
    FailureKind.MISSING_LIBRARIES: ErrorType.MISSING_LIBRARIES,
    FailureKind.NO_OUTPUT: ErrorType.NO_OUTPUT,
    FailureKind.OUT_OF_MEMORY: ErrorType.OUT_OF_MEMORY,
    # Observed clients say so where their working folder takes no more.
    FailureKind.DISK_FULL: ErrorType.CANNOT_MAKE_FOLDER,
    FailureKind.FOLDER: ErrorType.CANNOT_MAKE_FOLDER,
    FailureKind.NO_BLENDER: ErrorType.MISSING_RENDERER,
    FailureKind.NO_CAMERA: ErrorType.NO_OUTPUT,
    FailureKind.NO_ENGINE: ErrorType.ENGINE_NOT_AVAILABLE,
    FailureKind.NOTHING_TO_RENDER: ErrorType.NO_OUTPUT,
    FailureKind.SCENE_UNREADABLE: ErrorType.MISSING_SCENE,
    FailureKind.TIME_LIMIT: ErrorType.OVER_TIME,
    FailureKind.RESOURCE_LIMIT: ErrorType.KILLED,
    FailureKind.BAD_ARCHIVE: ErrorType.MISSING_SCENE,
    FailureKind.BAD_ORDER: ErrorType.CANNOT_EXECUTE,
    FailureKind.NODE_LEAVING: ErrorType.KILLED_BY_USER,
    FailureKind.NO_ARCHIVE: ErrorType.DOWNLOAD,
    FailureKind.BAD_PICTURE: ErrorType.VALIDATION,
    FailureKind.NOT_UPLOADED: ErrorType.NETWORK,
    FailureKind.NODES_DOWN: ErrorType.CRASHED,
    FailureKind.CANCELLED: ErrorType.KILLED_BY_USER,
}
#: Frames that were not rendered, and not because they could not be.
GIVEN_BACK = frozenset({FailureKind.NODE_LEAVING, FailureKind.CANCELLED})


def error_type_of(kind: FailureKind) -> ErrorType:
    """The number by which later generations of servers know this kind of failure."""
    return _TYPES.get(kind, ErrorType.UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class PendingReport:
    """An error report as its file holds it until the server has taken it."""

    #: Also the file's name; of a frame that never became a lease, an id of its own.
    lease_id: str
    session_key: str
    job: str
    frame: str
    extras: str | None
    #: Whole seconds, rounded up.
    render_time_s: int
    memory_used_kb: int
    log: str
    #: :class:`~sheepfold.protocol.status.ErrorType`; ``None`` in files of an older sheepfold.
    type: int | None = None
    #: False: the frame goes back unrendered, through nobody's fault.
    is_failure: bool = True


class ReportBox:
    """Error reports that the server has not taken yet; one file each, oldest first. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        #: Lease id → its session, oldest first; and those of them that are failures.
        self._waiting: dict[str, str] = {}
        self._failures: set[str] = set()

    def open(self) -> ReportBox:
        """Makes the folder, or finds the reports that wait in it; returns itself."""
        prepare_folder(self._folder)
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
            if pending := self._read(path):
                self._note(pending)
        return self

    def put(self, lease: Lease, report: FailureReport) -> None:
        """Persists the report of a lease's failure; it is on disk when this returns."""
        self.put_all([lease], report)

    def put_all(self, leases: Sequence[Lease], report: FailureReport) -> None:
        """Persists one report for each of these leases; all are on disk when this returns."""
        self._write([_pending(lease, report) for lease in leases])

    def put_unreadable(self, session_key: str, offer: UnreadableOffer) -> None:
        """The same for a frame that never became a lease."""
        self._write(
            [
                PendingReport(
                    lease_id=uuid.uuid4().hex,
                    session_key=session_key,
                    job=offer.job,
                    frame=offer.frame,
                    extras=offer.extras,
                    render_time_s=0,
                    memory_used_kb=0,
                    log=f"the offer cannot be followed: {offer.reason}\n",
                    type=ErrorType.WRONG_CONFIGURATION,
                )
            ]
        )

    def _write(self, reports: Sequence[PendingReport]) -> None:
        contents = {f"{report.lease_id}.json": json.dumps(asdict(report)).encode() for report in reports}
        write_all_atomically(self._folder, contents)
        with self._lock:
            for report in reports:
                self._note(report)

    def _note(self, pending: PendingReport) -> None:
        self._waiting[pending.lease_id] = pending.session_key
        if pending.is_failure:
            self._failures.add(pending.lease_id)

    def is_failure(self, lease_id: str) -> bool:
        """Whether the report tells of a failure: how many of those are sent is limited."""
        with self._lock:
            return lease_id in self._failures

    def waiting(self, session_key: str) -> list[str]:
        """Lease ids of a session's reports, oldest first."""
        with self._lock:
            return [lease_id for lease_id, key in self._waiting.items() if key == session_key]

    def read(self, lease_id: str) -> PendingReport | None:
        """A report; ``None`` for one that cannot be read, which is renamed."""
        pending = self._read(self._folder / f"{lease_id}.json")
        if pending is None:
            self._forget(lease_id)
        return pending

    def session_keys(self) -> set[str]:
        """Keys of the sessions that still have reports to send."""
        with self._lock:
            return set(self._waiting.values())

    def done(self, lease_id: str) -> None:
        """Deletes a report that the server has taken."""
        (self._folder / f"{lease_id}.json").unlink(missing_ok=True)
        self._forget(lease_id)

    def set_aside(self, lease_id: str) -> None:
        """The server does not take it; it stays on disk for a person."""
        path = self._folder / f"{lease_id}.json"
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".untold"))
        self._forget(lease_id)

    def _read(self, path: Path) -> PendingReport | None:
        try:
            return PendingReport(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            log.error("the error report %s cannot be read: it is renamed to *.unreadable, not sent: %s", path, error)
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".unreadable"))
            return None

    def _forget(self, lease_id: str) -> None:
        with self._lock:
            self._waiting.pop(lease_id, None)
            self._failures.discard(lease_id)


def _pending(lease: Lease, report: FailureReport) -> PendingReport:
    return PendingReport(
        lease_id=lease.id,
        session_key=lease.session_key,
        job=lease.offer.job_id,
        frame=lease.offer.frame,
        extras=lease.offer.extras,
        render_time_s=math.ceil(report.render_s),
        memory_used_kb=report.memory_kb,
        log=write_error_log(
            f"{report.kind.value}: {report.reason}",
            report.log[-REPORT_LOG_CHARS:],
            is_scenes_fault=cause_of(report.kind) is Cause.SCENE,
        ),
        type=error_type_of(report.kind),
        is_failure=report.kind not in GIVEN_BACK,
    )
