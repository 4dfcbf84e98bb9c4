"""What goes back to the server: finished frames and error reports, persisted before they are sent.

A frame waits in the spool and its lease is DELIVERED; an error report waits as a file in the ``reports`` folder
(``<lease id>.json``, a :class:`PendingReport`). Both survive a restart. Each session sends in the order in which things
were finished, one at a time; a definite answer ends the item, silence and 303 keep it, with growing waits.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable
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
    """Error reports that the server has not taken yet; one file each, oldest first."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

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

    def first(self, session_key: str) -> PendingReport | None:
        """The oldest one of a session."""
        for path in sorted(self._folder.glob("*.json"), key=_age):
            pending = self._read(path)
            if pending is not None and pending.session_key == session_key:
                return pending
        return None

    def _read(self, path: Path) -> PendingReport | None:
        try:
            return PendingReport(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None  # another session's thread has just sent it
        except (OSError, ValueError, TypeError) as error:
            log.error("the error report %s cannot be read and is set aside: %s", path.name, error)
            with contextlib.suppress(OSError):
                path.rename(path.with_suffix(".unreadable"))
            return None

    def session_keys(self) -> set[str]:
        """Sessions that have something here."""
        keys = set()
        for path in self._folder.glob("*.json"):
            try:
                keys.add(str(json.loads(path.read_text(encoding="utf-8"))["session_key"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return keys

    def done(self, pending: PendingReport) -> None:
        """The server has it."""
        (self._folder / f"{pending.lease_id}.json").unlink(missing_ok=True)


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Uploads:
    """Sends one session's frames and reports."""

    def __init__(
        self,
        session: UploadSession,
        ledger: Ledger,
        spool: Spool,
        reports: ReportBox,
        backoff: Backoff,
        on_broken: Callable[[Lease, str], None] = lambda _lease, _reason: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._ledger, self._spool, self._reports = session, ledger, spool, reports
        self._backoff, self._on_broken, self._clock = backoff, on_broken, clock
        self._not_before = 0.0
        self._odd_answers: dict[str, int] = {}

    def pending(self) -> int:
        """How many frames of this session wait for the server."""
        return sum(lease.session_key == self._session.key for lease in self._ledger.leases(LeaseState.DELIVERED))

    def idle(self) -> bool:
        """Nothing left to send."""
        return self.pending() == 0 and self._reports.first(self._session.key) is None

    def flush_once(self) -> bool:
        """Sends the next thing, if one is due. True: call again at once."""
        if self._clock() < self._not_before:
            return False
        lease, report = self._next_lease(), self._reports.first(self._session.key)
        if lease is None and report is None:
            return False
        try:
            if not self._session.ensure_signed_in():
                return False
            settled = self._send_frame(lease) if lease else self._send_report(report)  # type: ignore[arg-type]
        except ServerSilent as error:
            log.warning("not uploaded yet: %s", error)
            settled = False
        if settled:
            self._backoff.reset()
        else:
            self._not_before = self._clock() + self._backoff.next()
        return settled

    def _next_lease(self) -> Lease | None:
        mine = (lease for lease in self._ledger.leases(LeaseState.DELIVERED) if lease.session_key == self._session.key)
        return min(mine, key=lambda lease: lease.changed_at, default=None)

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

    def _send_report(self, pending: PendingReport) -> bool:
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
