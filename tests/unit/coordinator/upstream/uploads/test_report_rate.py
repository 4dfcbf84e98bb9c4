"""A server is told of failures a few at a time, and of frames that are given back at once."""

from __future__ import annotations

from pathlib import Path

from coordinator.delivery.spool import Spool
from coordinator.leases.lease import LeaseEvent
from coordinator.leases.ledger import Ledger
from coordinator.upstream.uploads.error_reports import ReportBox
from coordinator.upstream.uploads.report_rate import BURST, EVERY_S
from coordinator.upstream.uploads.session_uploads import SessionUploads
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.protocol.error_log import is_scenes_fault, reason_in
from tests.support.clocks import ManualClock
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.upload_harness import ScriptedSession, uploads


def waiting_reports(ledger: Ledger, reports: ReportBox, kind: FailureKind, count: int) -> None:
    for number in range(count):
        ended = ledger.apply(rendering(ledger, f"{number:04}").id, LeaseEvent.GIVE_UP)
        reports.put(ended, FailureReport(kind=kind, reason="so it is"))


def sent(sender: SessionUploads, session: ScriptedSession) -> int:
    before = len(session.reports)
    while sender.flush_once():
        pass
    return len(session.reports) - before


def test_a_farm_that_fails_frame_after_frame_tells_the_server_a_few_and_the_rest_later(
    ledger: Ledger, spool: Spool, reports: ReportBox
) -> None:
    session, clock = ScriptedSession(says=[0] * 999), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    waiting_reports(ledger, reports, FailureKind.RENDERER_CRASHED, BURST + 60)
    assert sent(sender, session) == BURST
    clock.now += 10 * EVERY_S
    assert sent(sender, session) == 10
    assert sender.pending() == 50, "what is not told yet is kept"
    clock.now += 1000 * EVERY_S
    assert sent(sender, session) == BURST, "rest makes no greater burst"


def test_frames_that_are_given_back_never_wait_behind_failures(
    ledger: Ledger, spool: Spool, reports: ReportBox, tmp_path: Path
) -> None:
    session, clock = ScriptedSession(says=[0] * 999), ManualClock(1.0)
    waiting_reports(ledger, reports, FailureKind.RENDERER_CRASHED, BURST + 5)
    waiting_reports(ledger, reports, FailureKind.NODE_LEAVING, 200)
    sender = uploads(session, ledger, spool, ReportBox(tmp_path / "reports").open(), clock)
    assert sent(sender, session) == BURST + 200
    assert sender.pending() == 5


def test_a_report_says_whether_it_is_the_scenes_fault(ledger: Ledger, spool: Spool, reports: ReportBox) -> None:
    session = ScriptedSession(says=[0] * 9)
    waiting_reports(ledger, reports, FailureKind.NO_CAMERA, 1)
    waiting_reports(ledger, reports, FailureKind.RENDERER_CRASHED, 1)
    sent(uploads(session, ledger, spool, reports, ManualClock(1.0)), session)
    reports = [(reason_in(text), is_scenes_fault(text)) for _, text in session.reports]
    assert sorted(reports) == [("no camera: so it is", True), ("renderer crashed: so it is", False)]
