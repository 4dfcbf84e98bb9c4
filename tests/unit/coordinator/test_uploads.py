from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from farm_parts import rendering, report

from coordinator.claims import Claims
from coordinator.leases import Lease, LeaseEvent, LeaseState
from coordinator.ledger import Ledger
from coordinator.protocol.messages import ErrorAnswer, ErrorReport, FrameUpload, ValidationAnswer
from coordinator.server_client import ServerSilent
from coordinator.sessions import Backoff
from coordinator.spool import Spool
from coordinator.tally import Tally
from coordinator.uploads import DEFINITE_AFTER, ReportBox, Uploads
from render_tasks.contract import FailureKind, FailureReport

KEY = "farm:linux/64bit"


@dataclass
class Session:
    """A session whose server answers with ``says``, one after the other; ``None`` is silence."""

    says: list[int | None]
    key: str = KEY
    uploads: list[FrameUpload] = field(default_factory=list)
    reports: list[tuple[ErrorReport, str]] = field(default_factory=list)
    died: int = 0

    @property
    def client(self) -> Session:
        return self

    def ensure_signed_in(self) -> bool:
        return True

    def session_died(self) -> None:
        self.died += 1

    def job_may_be_there(self) -> None:
        pass

    def validate(self, upload: FrameUpload, picture: Path) -> ValidationAnswer:
        assert picture.read_bytes().startswith(b"PNG")
        self.uploads.append(upload)
        return ValidationAnswer(status=self._answer())

    def report_error(self, report: ErrorReport, log: str) -> ErrorAnswer:
        self.reports.append((report, log))
        return ErrorAnswer(status=self._answer())

    def _answer(self) -> int:
        status = self.says.pop(0) if self.says else 0
        if status is None:
            raise ServerSilent("validation", "http://server", "no answer")
        return status


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reports(tmp_path: Path) -> ReportBox:
    return ReportBox(tmp_path / "reports")


def uploads(session: Session, ledger: Ledger, spool: Spool, reports: ReportBox, clock: Clock | None = None) -> Uploads:
    backoff = Backoff(10, 100, random.Random(1))
    tally = Tally()
    ledger.watch(tally.follow)
    return Uploads(session, ledger, tally, spool, reports, backoff, clock=clock or Clock(1.0))


def delivered(ledger: Ledger, claims: Claims, frame: str = "0012") -> Lease:
    lease = rendering(ledger, frame)
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    return ledger.get(lease.id)


def test_a_frame_goes_up_with_everything_the_server_wants_and_leaves_the_spool(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    lease, session = delivered(ledger, claims), Session(says=[0])
    assert uploads(session, ledger, spool, reports).flush_once()
    assert session.uploads == [
        FrameUpload(
            job="77", frame="0012", render_time_s=2, revision="3", extras="opaque", memory_used_kb=5000, cores=2
        )
    ]
    assert ledger.get(lease.id).state is LeaseState.ACCEPTED
    assert not spool.names()


def test_a_black_frame_goes_up_as_confirmed_once_it_was_rendered_twice(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    delivered(ledger, claims, "0011")
    lease, session = rendering(ledger, "0012"), Session(says=[0, 0])
    for attempt in (1, 2):
        claims.deliver(lease.id, attempt, "n1", report(b"PNG black"), [b"PNG black"])
        if attempt == 1:
            ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n1")
            ledger.apply(lease.id, LeaseEvent.START)
    sender = uploads(session, ledger, spool, reports)
    assert sender.flush_once()
    assert sender.flush_once()
    assert [(upload.frame, upload.is_confirmed) for upload in session.uploads] == [("0011", False), ("0012", True)]
    assert not spool.names()


@pytest.mark.parametrize("status", [300, 301, 302])
def test_a_refusal_is_for_good_and_keeps_the_pc_that_made_it(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox, status: int
) -> None:
    lease, session = delivered(ledger, claims), Session(says=[status])
    sender = uploads(session, ledger, spool, reports)
    assert sender.flush_once()
    assert not sender.flush_once()
    refused = ledger.get(lease.id)
    assert (refused.state, refused.node_id) == (LeaseState.REFUSED, "n1")
    assert str(status) in refused.reason
    assert len(session.uploads) == 1
    assert not spool.names()


@pytest.mark.parametrize("status", [303, 304, None])
def test_what_the_server_did_not_decide_is_kept_and_sent_again_later(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox, status: int | None
) -> None:
    lease, session, clock = delivered(ledger, claims), Session(says=[status, 0]), Clock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    assert not sender.flush_once()
    assert ledger.get(lease.id) == lease
    assert not sender.flush_once()
    assert len(session.uploads) == 1, "it waits before it tries again"
    clock.now += 20
    assert sender.flush_once()
    assert ledger.get(lease.id).state is LeaseState.ACCEPTED
    assert session.died == (status == 304)


def test_an_answer_nobody_knows_is_asked_again_a_few_times_and_then_means_no(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    lease, session, clock = delivered(ledger, claims), Session(says=[742] * 99), Clock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    for _ in range(20):
        sender.flush_once()
        clock.now += 1000
    assert len(session.uploads) == DEFINITE_AFTER
    assert ledger.get(lease.id).state is LeaseState.REFUSED
    assert "unknown error 742" in ledger.get(lease.id).reason


def test_frames_go_up_in_the_order_in_which_they_were_finished(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    for frame in ("0009", "0002", "0005"):
        delivered(ledger, claims, frame)
    session = Session(says=[])
    sender = uploads(session, ledger, spool, reports)
    while sender.flush_once():
        pass
    assert [upload.frame for upload in session.uploads] == ["0009", "0002", "0005"]


def test_a_picture_that_is_gone_from_the_spool_is_rendered_again(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    lease = delivered(ledger, claims)
    assert lease.delivery is not None
    spool.discard(lease.delivery.picture)
    uploads(Session(says=[]), ledger, spool, reports).flush_once()
    assert (ledger.get(lease.id).state, ledger.get(lease.id).attempt) == (LeaseState.GRANTED, 2)


def test_an_error_report_survives_a_restart_and_silence_and_is_sent_once(
    ledger: Ledger, spool: Spool, reports: ReportBox, tmp_path: Path
) -> None:
    lease = rendering(ledger)
    failed = ledger.apply(lease.id, LeaseEvent.GIVE_UP)
    reports.put(failed, FailureReport(kind=FailureKind.OUT_OF_MEMORY, reason="9 GB", log="line", render_s=3.2))
    session, clock = Session(says=[None, 0]), Clock(1.0)
    sender = uploads(session, ledger, spool, ReportBox(tmp_path / "reports"), clock)
    assert not sender.flush_once()
    clock.now += 20
    assert sender.flush_once()
    assert sender.idle()
    report_sent, log = session.reports[-1]
    assert (report_sent.job, report_sent.frame, report_sent.extras) == ("77", "0012", "opaque")
    assert report_sent.render_time_s == 4
    assert log == "out of memory: 9 GB\n\nline"


@pytest.mark.parametrize("status", [202, 304])
def test_an_error_report_of_a_dead_session_is_sent_again_with_a_new_one(
    ledger: Ledger, spool: Spool, reports: ReportBox, status: int
) -> None:
    failed = ledger.apply(rendering(ledger).id, LeaseEvent.GIVE_UP)
    reports.put(failed, FailureReport(kind=FailureKind.OUT_OF_MEMORY, reason="9 GB"))
    session, clock = Session(says=[status, 0]), Clock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    assert not sender.flush_once()
    assert session.died == 1
    clock.now += 20
    assert sender.flush_once()
    assert sender.idle()


def test_another_sessions_frames_are_left_alone(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    delivered(ledger, claims)
    other = Session(says=[], key="node:other")
    assert not uploads(other, ledger, spool, reports).flush_once()
    assert not other.uploads


class Slow(Session):
    """Answers when two are asking at the same time."""

    def __init__(self, **fields: object) -> None:
        super().__init__(**fields)  # type: ignore[arg-type]
        self.together = threading.Barrier(2, timeout=10)

    def _answer(self) -> int:
        self.together.wait()
        return super()._answer()


def test_two_threads_send_two_frames_and_none_twice(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    for number in ("0001", "0002"):
        delivered(ledger, claims, number)
    session = Slow(says=[0, 0])
    sender = uploads(session, ledger, spool, reports)
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda _: sender.flush_once(), range(2)))
    assert sorted(one.frame for one in session.uploads) == ["0001", "0002"]
    assert sender.idle()


def test_threads_that_meet_the_same_silence_make_one_wait(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    for number in ("0001", "0002"):
        delivered(ledger, claims, number)
    clock, session = Clock(1.0), Slow(says=[None, None])
    sender = uploads(session, ledger, spool, reports, clock)
    with ThreadPoolExecutor(2) as pool:
        assert not any(pool.map(lambda _: sender.flush_once(), range(2)))
    clock.now += 12.5
    session.together = threading.Barrier(1)
    assert sender.flush_once(), "a second wait would be twice as long"


def test_a_report_and_a_frame_are_counted_together(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    delivered(ledger, claims, "0001")
    reports.put(rendering(ledger, "0002"), FailureReport(kind=FailureKind.NO_OUTPUT, reason="nothing"))
    sender = uploads(Session(says=[0, 0]), ledger, spool, reports)
    assert sender.pending() == 2
    assert sender.flush_once()
    assert sender.flush_once()
    assert sender.pending() == 0
