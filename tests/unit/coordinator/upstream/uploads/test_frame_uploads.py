"""What each answer of the server makes of a frame."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.delivery.claims import Claims
from coordinator.delivery.spool import Spool
from coordinator.leases.lease import LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.upstream.reactions import DEFINITE_AFTER
from coordinator.upstream.uploads.error_reports import ReportBox
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.protocol.messages import FrameUpload
from tests.support.coordinator.builders import rendering, report
from tests.support.coordinator.upload_harness import (
    ManualClock,
    ScriptedSession,
    SimultaneousSession,
    bad_answer,
    delivered,
    uploads,
)


def test_a_frame_goes_up_with_everything_the_server_wants_and_leaves_the_spool(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    lease, session = delivered(ledger, claims), ScriptedSession(says=[0])
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
    lease, session = rendering(ledger, "0012"), ScriptedSession(says=[0, 0])
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


@pytest.mark.parametrize(("status", "is_blamed"), [(300, 0), (301, 1), (302, 1), (306, 0), (308, 0)])
def test_a_refusal_is_for_good_and_keeps_the_pc_that_made_it(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox, status: int, is_blamed: int
) -> None:
    lease, session = delivered(ledger, claims), ScriptedSession(says=[status])
    sender = uploads(session, ledger, spool, reports)
    assert sender.flush_once()
    assert not sender.flush_once()
    refused = ledger.get(lease.id)
    assert (refused.state, refused.node_id) == (LeaseState.REFUSED, "n1")
    assert str(status) in refused.reason
    assert len(session.uploads) == 1
    assert not spool.names()
    assert len(session.blamed) == is_blamed


@pytest.mark.parametrize("status", [303, 742, bad_answer(403), bad_answer(500), None])
def test_what_the_server_did_not_decide_is_kept_and_sent_again_later(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox, status: int | Exception | None
) -> None:
    lease, session, clock = delivered(ledger, claims), ScriptedSession(says=[status, 0]), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    assert sender.flush_once() == (status is not None)
    assert ledger.get(lease.id) == lease
    assert not sender.flush_once()
    assert len(session.uploads) == 1, "it waits before it tries again"
    clock.now += 20
    assert sender.flush_once()
    assert ledger.get(lease.id).state is LeaseState.ACCEPTED


@pytest.mark.parametrize("status", [304, 202])
def test_a_frame_of_a_dead_session_goes_up_at_once_with_a_new_one(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox, status: int
) -> None:
    lease, session = delivered(ledger, claims), ScriptedSession(says=[status, 0])
    assert uploads(session, ledger, spool, reports).flush_once()
    assert ledger.get(lease.id).state is LeaseState.ACCEPTED
    assert (session.died, len(session.uploads)) == (1, 2)


def test_a_server_that_calls_every_session_dead_is_not_asked_in_a_circle(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    delivered(ledger, claims)
    session = ScriptedSession(says=[304] * 99)
    sender = uploads(session, ledger, spool, reports)
    while sender.flush_once():
        pass
    assert len(session.uploads) == 2


def test_an_answer_nobody_knows_is_asked_again_a_few_times_and_then_means_no(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    lease, session, clock = delivered(ledger, claims), ScriptedSession(says=[742] * 99), ManualClock(1.0)
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
    session = ScriptedSession(says=[])
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
    uploads(ScriptedSession(says=[]), ledger, spool, reports).flush_once()
    assert (ledger.get(lease.id).state, ledger.get(lease.id).attempt) == (LeaseState.GRANTED, 2)


def test_another_sessions_frames_are_left_alone(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    delivered(ledger, claims)
    other = ScriptedSession(says=[], key="node:other")
    assert not uploads(other, ledger, spool, reports).flush_once()
    assert not other.uploads


def test_two_threads_send_two_frames_and_none_twice(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    for number in ("0001", "0002"):
        delivered(ledger, claims, number)
    session = SimultaneousSession(says=[0, 0])
    sender = uploads(session, ledger, spool, reports)
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda _: sender.flush_once(), range(2)))
    assert sorted(upload.frame for upload in session.uploads) == ["0001", "0002"]
    assert sender.idle()


def test_a_report_and_a_frame_are_counted_together(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    delivered(ledger, claims, "0001")
    reports.put(rendering(ledger, "0002"), FailureReport(kind=FailureKind.NO_OUTPUT, reason="nothing"))
    sender = uploads(ScriptedSession(says=[0, 0]), ledger, spool, reports)
    assert sender.pending() == 2
    assert sender.flush_once()
    assert sender.flush_once()
    assert sender.pending() == 0


def test_a_frame_goes_where_its_offer_says(ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox) -> None:
    lease = rendering(ledger, validation_url="http://other/frame?token=1")
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    session = ScriptedSession(says=[0])
    assert uploads(session, ledger, spool, reports).flush_once()
    assert session.urls == ["http://other/frame?token=1"]
