"""A server session of the test's own, and uploads through it."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.delivery.claims import Claims
from coordinator.delivery.spool import Spool
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.lease import Lease, LeaseEvent
from coordinator.leases.ledger import Ledger
from coordinator.upstream.errors import BadAnswer, ServerSilent
from coordinator.upstream.uploads.error_reports import ReportBox
from coordinator.upstream.uploads.session_uploads import SessionUploads
from coordinator.upstream.uploads.upload_services import UploadServices
from sheepfold.backoff import Backoff
from sheepfold.contract.api_messages import FailureReport
from sheepfold.protocol.messages import ErrorAnswer, ErrorReport, FrameUpload, ValidationAnswer
from sheepfold.protocol.status import ValidationStatus, status_of
from tests.support.clocks import ManualClock
from tests.support.coordinator.builders import rendering, report

KEY = "farm:linux/64bit"


@dataclass
class ScriptedSession:
    """A session whose server answers with ``says``, one after the other, then 0; ``None`` is silence."""

    says: list[int | Exception | None]
    #: Frame → what is said to it whenever it comes; before ``says``.
    of_frame: dict[str, int | Exception | None] = field(default_factory=dict)
    key: str = KEY
    uploads: list[FrameUpload] = field(default_factory=list)
    urls: list[str | None] = field(default_factory=list)
    reports: list[tuple[ErrorReport, str]] = field(default_factory=list)
    died: int = 0
    blamed: list[str] = field(default_factory=list)

    @property
    def client(self) -> ScriptedSession:
        return self

    def ensure_signed_in(self) -> bool:
        return True

    def session_died(self) -> None:
        self.died += 1

    def job_may_be_there(self) -> None:
        pass

    def validate(self, upload: FrameUpload, picture: Path, url: str | None = None) -> ValidationAnswer:
        assert picture.read_bytes().startswith(b"PNG")
        self.uploads.append(upload)
        self.urls.append(url)
        return ValidationAnswer(status=status_of(ValidationStatus, self._answer(upload.frame)))

    def report_error(self, report: ErrorReport, log: str) -> ErrorAnswer:
        self.reports.append((report, log))
        return ErrorAnswer(status=self._answer())

    def _answer(self, frame: str = "") -> int:
        status = self.of_frame[frame] if frame in self.of_frame else self.says.pop(0) if self.says else 0
        if status is None:
            raise ServerSilent("validation", "http://server", "no answer")
        if isinstance(status, Exception):
            raise status
        return status


def uploads(
    session: ScriptedSession, ledger: Ledger, spool: Spool, reports: ReportBox, clock: ManualClock | None = None
) -> SessionUploads:
    tally = LeaseCounters()
    ledger.watch(tally.follow)

    def give_up(lease: Lease, failure: FailureReport) -> None:
        reports.put(ledger.apply(lease.id, LeaseEvent.GIVE_UP, reason=failure.reason), failure)

    services = UploadServices(
        ledger=ledger,
        counters=tally,
        spool=spool,
        reports=reports,
        backoff=lambda: Backoff(10, 100, random.Random(1)),
        give_up=give_up,
        on_broken=lambda lease, _reason: session.blamed.append(lease.id),
    )
    return SessionUploads(session, services, clock=clock or ManualClock(1.0))


def try_again(sender: SessionUploads, clock: ManualClock, times: int) -> None:
    """Everything that is due is sent, then everybody waits longer than any wait."""
    for _ in range(times):
        while sender.flush_once():
            pass
        clock.now += 1000


def bad_answer(code: int) -> BadAnswer:
    return BadAnswer("validation", "http://server", f"HTTP {code}", code)


def delivered(ledger: Ledger, claims: Claims, frame: str = "0012") -> Lease:
    lease = rendering(ledger, frame)
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    return ledger.get(lease.id)


class SimultaneousSession(ScriptedSession):
    """Answers when two are asking at the same time."""

    def __init__(self, **fields: object) -> None:
        super().__init__(**fields)  # type: ignore[arg-type]
        self.together = threading.Barrier(2, timeout=10)

    def _answer(self, frame: str = "") -> int:
        self.together.wait()
        return super()._answer(frame)
