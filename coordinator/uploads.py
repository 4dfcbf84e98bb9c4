"""What goes back to the server: finished frames and error reports, persisted before they are sent.

A frame waits in the spool and its lease is DELIVERED; an error report waits as a file in the ``reports`` folder
(``<lease id>.json``, a :class:`PendingReport`). Both survive a restart. Each session begins with things in the order in
which they were finished, several at a time; a definite answer ends the item, silence and 303 keep it, with growing
waits for all of the session's.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from render_tasks.contract import FailureReport

from .leases import Lease, LeaseError, LeaseEvent, LeaseState
from .ledger import Ledger
from .protocol.messages import ErrorAnswer, ErrorReport, FrameUpload, ValidationAnswer
from .protocol.status import JobStatus, ValidationStatus, explain
from .server_client import ServerSilent
from .sessions import Backoff
from .spool import Spool
from .tally import Tally

log = logging.getLogger(__name__)

#: Answers that refuse the frame for good.
REFUSALS = frozenset({ValidationStatus.MISSING_PARAMETER, ValidationStatus.BROKEN_FRAME, ValidationStatus.NOT_AN_IMAGE})
#: Those that are the fault of the PC that rendered it.
BROKEN = frozenset({ValidationStatus.BROKEN_FRAME, ValidationStatus.NOT_AN_IMAGE})
#: A server that answers "session dead" to this many fresh sessions, or a code nobody knows this often, means no.
DEFINITE_AFTER = 5
#: Of a renderer's output, this much is worth a server's while (characters, from the end).
REPORT_LOG_CHARS = 200_000


class UploadClient(Protocol):
    """The two exchanges this room needs."""

    def validate(self, upload: FrameUpload, picture: Path) -> ValidationAnswer: ...
    def report_error(self, report: ErrorReport, log: str) -> ErrorAnswer: ...


class UploadSession(Protocol):
    """The session this room needs."""

    key: str

    @property
    def client(self) -> UploadClient: ...
    def ensure_signed_in(self) -> bool: ...
    def session_died(self) -> None: ...
    def job_may_be_there(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class PendingReport:
    """An error report on disk."""

    lease_id: str
    session_key: str
    job: str
    frame: str
    extras: str | None
    render_time_s: int
    memory_used_kb: int
    log: str


class ReportBox:
    """Error reports that the server has not taken yet; one file each, oldest first. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = threading.Lock()
        #: Lease id → its session, oldest first.
        self._waiting: dict[str, str] = {}
        for path in sorted(folder.glob("*.json"), key=lambda one: one.stat().st_mtime_ns):
            if pending := self._read(path):
                self._waiting[pending.lease_id] = pending.session_key

    def put(self, lease: Lease, report: FailureReport) -> None:
        """On disk before this returns."""
        pending = PendingReport(
            lease_id=lease.id,
            session_key=lease.session_key,
            job=lease.offer.job_id,
            frame=lease.offer.frame,
            extras=lease.offer.extras,
            render_time_s=math.ceil(report.render_s),
            memory_used_kb=report.memory_kb,
            log=f"{report.kind.value}: {report.reason}\n\n{report.log[-REPORT_LOG_CHARS:]}",
        )
        partial = self._folder / f"{lease.id}.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump(asdict(pending), file)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(self._folder / f"{lease.id}.json")
        with self._lock:
            self._waiting[lease.id] = lease.session_key

    def waiting(self, session_key: str) -> list[str]:
        """Lease ids of a session's reports, oldest first."""
        with self._lock:
            return [lease_id for lease_id, key in self._waiting.items() if key == session_key]

    def read(self, lease_id: str) -> PendingReport | None:
        """A report; ``None`` for one that cannot be read, which is set aside."""
        pending = self._read(self._folder / f"{lease_id}.json")
        if pending is None:
            self._forget(lease_id)
        return pending

    def _read(self, path: Path) -> PendingReport | None:
        try:
            return PendingReport(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            log.error("the error report %s cannot be read and is set aside: %s", path.name, error)
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".unreadable"))
            return None

    def session_keys(self) -> set[str]:
        """Sessions that have something here."""
        with self._lock:
            return set(self._waiting.values())

    def done(self, pending: PendingReport) -> None:
        """The server has it."""
        (self._folder / f"{pending.lease_id}.json").unlink(missing_ok=True)
        self._forget(pending.lease_id)

    def _forget(self, lease_id: str) -> None:
        with self._lock:
            self._waiting.pop(lease_id, None)


class Uploads:
    """Sends one session's frames and reports; any number of threads may flush at the same time."""

    def __init__(
        self,
        session: UploadSession,
        ledger: Ledger,
        tally: Tally,
        spool: Spool,
        reports: ReportBox,
        backoff: Backoff,
        on_broken: Callable[[Lease, str], None] = lambda _lease, _reason: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._ledger, self._tally = session, ledger, tally
        self._spool, self._reports = spool, reports
        self._backoff, self._on_broken, self._clock = backoff, on_broken, clock
        self._not_before = 0.0
        self._odd_answers: dict[str, int] = {}
        self._lock = threading.Lock()
        #: Leases whose frame or report a thread is sending now.
        self._under_way: set[str] = set()

    def pending(self) -> int:
        """How many frames and reports of this session wait for the server."""
        return self._tally.of(self._session.key).delivered + len(self._reports.waiting(self._session.key))

    def idle(self) -> bool:
        """Nothing left to send."""
        return self.pending() == 0

    def flush_once(self) -> bool:
        """Sends the next thing, if one is due. True: call again at once."""
        with self._next() as (lease, report_of):
            if lease is None and report_of is None:
                return False
            try:
                if not self._session.ensure_signed_in():
                    return False
                settled = self._send_frame(lease) if lease else self._send_report(report_of or "")
            except ServerSilent as error:
                log.warning("not uploaded yet: %s", error)
                settled = False
            self._pace(settled)
            return settled

    def _pace(self, settled: bool) -> None:
        with self._lock:
            if settled:
                self._backoff.reset()
            elif self._clock() >= self._not_before:  # else another thread met the same silence
                self._not_before = self._clock() + self._backoff.next()

    @contextlib.contextmanager
    def _next(self) -> Iterator[tuple[Lease | None, str | None]]:
        """The next frame, or the lease id of the next report, for this thread alone."""
        with self._lock:
            lease, report_of = None, None
            if self._clock() >= self._not_before:
                lease = self._ledger.first(LeaseState.DELIVERED, self._is_mine)
                if lease is None:
                    waiting = self._reports.waiting(self._session.key)
                    report_of = next((one for one in waiting if one not in self._under_way), None)
            taken = lease.id if lease else report_of
            if taken:
                self._under_way.add(taken)
        try:
            yield lease, report_of
        finally:
            with self._lock:
                self._under_way.discard(taken or "")

    def _is_mine(self, lease: Lease) -> bool:
        return lease.session_key == self._session.key and lease.id not in self._under_way

    def _send_frame(self, lease: Lease) -> bool:
        delivery = lease.delivery
        picture = self._spool.path(delivery.picture) if delivery else None
        if delivery is None or picture is None or not picture.is_file():
            log.error("%s: its picture is gone from the spool; it is rendered again", lease.label)
            self._apply(lease, LeaseEvent.RETRY, reason="the picture is gone from the spool")
            return True
        upload = FrameUpload(
            job=lease.offer.job_id,
            frame=lease.offer.frame,
            render_time_s=math.ceil(delivery.render_s),
            revision=lease.offer.revision,
            extras=lease.offer.extras,
            memory_used_kb=delivery.memory_kb,
            cores=delivery.cores,
            is_confirmed=delivery.is_confirmed,
        )
        try:
            status = self._session.client.validate(upload, picture).status
        except OSError as error:
            log.error("%s: its picture cannot be read (%s); it is rendered again", lease.label, error)
            self._apply(lease, LeaseEvent.RETRY, reason="the picture in the spool cannot be read")
            self._spool.discard(delivery.picture)
            return True
        return self._settle(lease, delivery.picture, status)

    def _settle(self, lease: Lease, picture: str, status: ValidationStatus | int) -> bool:
        if status == ValidationStatus.OK:
            self._apply(lease, LeaseEvent.ACCEPT, answer=int(status))
            log.info("%s accepted", lease.label)
        elif status in REFUSALS or (status != ValidationStatus.UPLOAD_FAILED and self._odd_too_often(lease)):
            self._apply(lease, LeaseEvent.REFUSE, reason=explain(status), answer=int(status))
            log.error("%s refused, rendered by node %s: %s", lease.label, lease.node_id, explain(status))
            if status in BROKEN:
                self._on_broken(lease, explain(status))
        else:
            if status == ValidationStatus.SESSION_DEAD:
                self._session.session_died()
            log.warning("%s is kept for another try: %s", lease.label, explain(status))
            return False
        self._odd_answers.pop(lease.id, None)
        self._spool.discard(picture)
        self._session.job_may_be_there()
        return True

    def _odd_too_often(self, lease: Lease) -> bool:
        self._odd_answers[lease.id] = self._odd_answers.get(lease.id, 0) + 1
        return self._odd_answers[lease.id] >= DEFINITE_AFTER

    def _send_report(self, lease_id: str) -> bool:
        pending = self._reports.read(lease_id)
        if pending is None:
            return True
        report = ErrorReport(
            job=pending.job,
            frame=pending.frame,
            extras=pending.extras,
            render_time_s=pending.render_time_s,
            memory_used_kb=pending.memory_used_kb,
        )
        answer = self._session.client.report_error(report, pending.log)
        if answer.status in (JobStatus.SESSION_DEAD, ValidationStatus.SESSION_DEAD):
            # No code of its own is specified for this exchange; servers answer with those of the others.
            self._session.session_died()
            return False
        if answer.status != 0:
            log.warning("error report for frame %s of job %s: %s", pending.frame, pending.job, explain(answer.status))
        self._reports.done(pending)
        self._session.job_may_be_there()
        return True

    def _apply(self, lease: Lease, event: LeaseEvent, *, reason: str = "", answer: int | None = None) -> None:
        try:
            self._ledger.apply(lease.id, event, attempt=lease.attempt, reason=reason, answer=answer)
        except LeaseError as error:  # cancelled by the operator while its upload was under way
            log.info("%s stays as it is: %s", lease.label, error)
            self._odd_answers.pop(lease.id, None)
