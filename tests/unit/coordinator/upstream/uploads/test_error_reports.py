"""Error reports on their way to the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.delivery.claims import Claims
from coordinator.delivery.spool import Spool
from coordinator.leases.lease import LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.upstream.reactions import DEFINITE_AFTER
from coordinator.upstream.uploads.error_reports import ReportBox, error_type_of
from coordinator.upstream.uploads.report_uploads import SHORT_LOG_CHARS
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.protocol.messages import UnreadableOffer
from sheepfold.protocol.status import ErrorType
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.upload_harness import (
    KEY,
    ManualClock,
    ScriptedSession,
    bad_answer,
    delivered,
    try_again,
    uploads,
)


def test_an_error_report_survives_a_restart_and_silence_and_is_sent_once(
    ledger: Ledger, spool: Spool, reports: ReportBox, tmp_path: Path
) -> None:
    lease = rendering(ledger)
    failed = ledger.apply(lease.id, LeaseEvent.GIVE_UP)
    reports.put(failed, FailureReport(kind=FailureKind.OUT_OF_MEMORY, reason="9 GB", log="line", render_s=3.2))
    session, clock = ScriptedSession(says=[None, 0]), ManualClock(1.0)
    sender = uploads(session, ledger, spool, ReportBox(tmp_path / "reports").open(), clock)
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
    session = ScriptedSession(says=[status, 0])
    sender = uploads(session, ledger, spool, reports)
    assert sender.flush_once()
    assert (session.died, len(session.reports)) == (1, 2)
    assert sender.idle()


@pytest.mark.parametrize("trouble", [742, 300, bad_answer(500)])
def test_an_error_report_that_is_not_taken_is_tried_again_and_kept_for_a_person_in_the_end(
    ledger: Ledger, spool: Spool, reports: ReportBox, tmp_path: Path, trouble: int | Exception
) -> None:
    failed = ledger.apply(rendering(ledger).id, LeaseEvent.GIVE_UP)
    reports.put(failed, FailureReport(kind=FailureKind.OUT_OF_MEMORY, reason="9 GB"))
    session, clock = ScriptedSession(says=[trouble] * 99), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    try_again(sender, clock, DEFINITE_AFTER - 1)
    assert not sender.idle()
    try_again(sender, clock, 3)
    assert len(session.reports) == DEFINITE_AFTER
    assert sender.idle()
    assert [path.suffix for path in (tmp_path / "reports").iterdir()] == [".untold"]
    assert not ReportBox(tmp_path / "reports").open().session_keys(), "nor is it after a restart"


def test_an_error_report_answered_with_an_unknown_status_is_not_lost(
    ledger: Ledger, spool: Spool, reports: ReportBox
) -> None:
    failed = ledger.apply(rendering(ledger).id, LeaseEvent.GIVE_UP)
    reports.put(failed, FailureReport(kind=FailureKind.OUT_OF_MEMORY, reason="9 GB"))
    session, clock = ScriptedSession(says=[742, 0]), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    try_again(sender, clock, 2)
    assert len(session.reports) == 2
    assert sender.idle()


def test_a_report_that_is_too_large_is_told_in_short(ledger: Ledger, spool: Spool, reports: ReportBox) -> None:
    failed = ledger.apply(rendering(ledger).id, LeaseEvent.GIVE_UP)
    reports.put(failed, FailureReport(kind=FailureKind.NO_OUTPUT, reason="nothing", log="line\n" * 9999))
    session = ScriptedSession(says=[bad_answer(413), 0])
    sender = uploads(session, ledger, spool, reports)
    assert sender.flush_once()
    assert sender.idle()
    assert session.reports[1][1].startswith("no output file: nothing")
    assert len(session.reports[1][1]) == SHORT_LOG_CHARS


def test_a_report_that_is_not_taken_delays_no_frame(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    failed = ledger.apply(rendering(ledger, "0001").id, LeaseEvent.GIVE_UP)
    reports.put(failed, FailureReport(kind=FailureKind.NO_OUTPUT, reason="nothing"))
    session = ScriptedSession(says=[742])
    sender = uploads(session, ledger, spool, reports)
    assert sender.flush_once()
    lease = delivered(ledger, claims, "0002")
    assert sender.flush_once()
    assert ledger.get(lease.id).state is LeaseState.ACCEPTED


def test_every_kind_of_failure_has_the_number_later_generations_know_it_by() -> None:
    assert error_type_of(FailureKind.RENDERER_CRASHED) == 12
    assert error_type_of(FailureKind.OUT_OF_MEMORY) == 21
    assert error_type_of(FailureKind.INTERNAL) == 99
    unknown = {kind for kind in FailureKind if error_type_of(kind) == ErrorType.UNKNOWN}
    assert unknown == {FailureKind.INTERNAL}


def test_a_report_of_an_older_sheepfold_is_read(tmp_path: Path) -> None:
    (tmp_path / "a1.json").write_text(
        '{"lease_id": "a1", "session_key": "k", "job": "1", "frame": "2", "extras": null, "render_time_s": 1, '
        '"memory_used_kb": 2, "log": "x"}'
    )
    box = ReportBox(tmp_path).open()
    assert box.waiting("k") == ["a1"]
    pending = box.read("a1")
    assert pending is not None
    assert pending.type is None


def test_a_frame_that_never_became_a_lease_is_given_back_with_the_reason(
    ledger: Ledger, spool: Spool, reports: ReportBox
) -> None:
    reports.put_unreadable(KEY, UnreadableOffer(job="7", frame="0012", extras="x", reason="<job> has no <renderer>"))
    session = ScriptedSession(says=[0])
    sender = uploads(session, ledger, spool, reports)
    assert sender.flush_once()
    assert sender.idle()
    [(report, log)] = session.reports
    assert (report.job, report.frame, report.extras, report.type) == ("7", "0012", "x", ErrorType.WRONG_CONFIGURATION)
    assert "<job> has no <renderer>" in log
