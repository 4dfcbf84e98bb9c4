"""One session's error reports: which goes next, what the server's answer makes of it, and when it is set aside."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from coordinator.leases.lease import Lease
from coordinator.leases.ledger import Ledger
from coordinator.upstream.reactions import DEFINITE_AFTER, GIVEN_UP_ALONE
from coordinator.upstream.uploads.error_reports import ReportBox
from coordinator.upstream.uploads.report_rate import ReportRate
from coordinator.upstream.uploads.report_uploads import SHORT_LOG_CHARS, ReportUploads
from coordinator.upstream.uploads.retries import Failures, RetryTable
from sheepfold.backoff import Backoff
from sheepfold.contract.api_messages import FailureKind, FailureReport
from tests.support.clocks import ManualClock
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.upload_harness import ScriptedSession, bad_answer

CRASHED = FailureReport(kind=FailureKind.RENDERER_CRASHED, reason="crashed", log="x" * (SHORT_LOG_CHARS + 1))
LEAVING = FailureReport(kind=FailureKind.NODE_LEAVING, reason="the farm was stopped")


class WaitingReports:
    """Reports on a real disk, and a server that answers what ``session.says`` holds, then 0."""

    def __init__(self, ledger: Ledger, reports: ReportBox) -> None:
        self.ledger, self.reports, self.session = ledger, reports, ScriptedSession(says=[])
        clock = ManualClock(1.0)
        self.retries = RetryTable(lambda: Backoff(10, 100, random.Random(1)), clock)
        # One failure may be told, and no second one: the clock stands still.
        rate = ReportRate(burst=1, every_s=3.0, clock=clock)
        self.uploads = ReportUploads(self.session, reports, self.retries, rate)

    def put(self, frame: str, report: FailureReport = CRASHED) -> Lease:
        lease = rendering(self.ledger, frame)
        self.reports.put(lease, report)
        return lease


@pytest.fixture
def waiting_reports(ledger: Ledger, reports: ReportBox) -> WaitingReports:
    return WaitingReports(ledger, reports)


def all_may_go(_lease_id: str) -> bool:
    return True


def test_the_oldest_that_may_go_is_next(waiting_reports: WaitingReports) -> None:
    first, second = waiting_reports.put("0001", LEAVING), waiting_reports.put("0002", LEAVING)
    assert waiting_reports.uploads.waiting() == [first.id, second.id]
    assert waiting_reports.uploads.next(all_may_go) == first.id
    assert waiting_reports.uploads.next(lambda lease_id: lease_id != first.id) == second.id
    assert waiting_reports.uploads.next(lambda _lease_id: False) is None


def test_failures_beyond_the_rate_let_frames_that_go_back_pass(waiting_reports: WaitingReports) -> None:
    first = waiting_reports.put("0001")
    assert waiting_reports.uploads.next(all_may_go) == first.id, "it counts as told"
    given_back = waiting_reports.put("0002", LEAVING)
    assert waiting_reports.uploads.next(all_may_go) == given_back.id
    assert waiting_reports.uploads.next(lambda lease_id: lease_id == first.id) is None


def test_a_report_that_is_taken_is_gone_and_another_frame_may_be_asked_for(
    waiting_reports: WaitingReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_again: list[bool] = []
    monkeypatch.setattr(waiting_reports.session, "job_may_be_there", lambda: asked_again.append(True))
    lease = waiting_reports.put("0001", LEAVING)
    assert waiting_reports.uploads.send(lease.id) == ""
    assert (waiting_reports.uploads.waiting(), len(waiting_reports.session.reports), asked_again) == ([], 1, [True])


def test_an_answer_that_settles_nothing_is_the_reason_why_it_stays(waiting_reports: WaitingReports) -> None:
    lease = waiting_reports.put("0001", LEAVING)
    waiting_reports.session.says = [999]
    assert "999" in waiting_reports.uploads.send(lease.id)
    assert waiting_reports.uploads.waiting() == [lease.id]


def test_a_dead_session_is_replaced_and_the_report_sent_again_once(waiting_reports: WaitingReports) -> None:
    lease = waiting_reports.put("0001", LEAVING)
    waiting_reports.session.says = [304]
    assert waiting_reports.uploads.send(lease.id) == ""
    assert (waiting_reports.session.died, len(waiting_reports.session.reports)) == (1, 2)


def test_a_server_that_finds_the_log_too_large_is_told_its_beginning(waiting_reports: WaitingReports) -> None:
    lease = waiting_reports.put("0001")
    waiting_reports.session.says = [bad_answer(413)]
    assert waiting_reports.uploads.send(lease.id) == ""
    assert [len(log) > SHORT_LOG_CHARS for _, log in waiting_reports.session.reports] == [True, False]


@pytest.mark.parametrize(
    "failures",
    [
        Failures(alone=0, answers=DEFINITE_AFTER, wait_s=10.0),
        Failures(alone=GIVEN_UP_ALONE, answers=0, wait_s=10.0),
    ],
)
def test_one_that_is_never_taken_is_set_aside_for_a_person(
    waiting_reports: WaitingReports, failures: Failures, tmp_path: Path
) -> None:
    lease = waiting_reports.put("0001")
    waiting_reports.uploads.failed(lease.id, Failures(alone=0, answers=1, wait_s=10.0), "status 999")
    assert waiting_reports.uploads.waiting() == [lease.id]
    waiting_reports.uploads.failed(lease.id, failures, "status 999")
    assert not waiting_reports.uploads.waiting()
    assert (tmp_path / "reports" / f"{lease.id}.untold").is_file()


def test_one_that_cannot_be_read_holds_nobody_up(waiting_reports: WaitingReports, tmp_path: Path) -> None:
    lease = waiting_reports.put("0001")
    (tmp_path / "reports" / f"{lease.id}.json").write_text("{")
    assert waiting_reports.uploads.send(lease.id) == ""
    assert not waiting_reports.uploads.waiting()
    assert not waiting_reports.session.reports
