"""What the uploads of a session stand on, and the exchange that frames and reports share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coordinator.delivery.spool import Spool
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.lease import Lease
from coordinator.leases.ledger import Ledger
from coordinator.upstream.reactions import DEAD
from sheepfold.backoff import Backoff
from sheepfold.contract.api_messages import FailureReport
from sheepfold.protocol.messages import ErrorAnswer, ErrorReport, FrameUpload, ValidationAnswer

from .error_reports import ReportBox


class ReportClient(Protocol):
    """The exchange that a report needs."""

    def report_error(self, report: ErrorReport, log: str) -> ErrorAnswer: ...


class UploadClient(ReportClient, Protocol):
    """The two exchanges that uploads need."""

    def validate(self, upload: FrameUpload, picture: Path, url: str | None = None) -> ValidationAnswer: ...


class UploadSession(Protocol):
    """What uploads need of a session (:class:`coordinator.upstream.session.FarmSession`)."""

    key: str

    @property
    def client(self) -> UploadClient: ...
    def ensure_signed_in(self) -> bool: ...
    def session_died(self) -> None: ...
    def job_may_be_there(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class UploadServices:
    """What the uploads of all sessions stand on."""

    ledger: Ledger
    counters: LeaseCounters
    spool: Spool
    reports: ReportBox
    #: Makes the waits of a session, of a frame or of a report.
    backoff: Callable[[], Backoff]
    #: A frame will not be stored: ends its lease and puts its report into ``reports``.
    give_up: Callable[[Lease, FailureReport], None]
    #: The server refused a frame as broken, in these words.
    on_broken: Callable[[Lease, str], None] = lambda _lease, _reason: None


def answer_of(session: UploadSession, send: Callable[[], int]) -> int:
    """The status; where the session was dead, the answer to a new one, which is tried at once and once."""
    status = send()
    if status in DEAD:
        session.session_died()
        if session.ensure_signed_in():
            status = send()
            if status in DEAD:
                session.session_died()
    return status
