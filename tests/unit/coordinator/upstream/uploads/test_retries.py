"""Whom a trouble delays, and when a frame is given up."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coordinator.delivery.claims import Claims
from coordinator.delivery.spool import Spool
from coordinator.leases.lease import LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.upstream.reactions import GIVEN_UP_AFTER, GIVEN_UP_ALONE, GIVEN_UP_SYNCHRONOUS
from coordinator.upstream.uploads.error_reports import ReportBox
from sheepfold.protocol.status import ErrorType
from tests.support.coordinator.builders import rendering, report
from tests.support.coordinator.upload_harness import (
    ManualClock,
    ScriptedSession,
    SimultaneousSession,
    bad_answer,
    delivered,
    try_again,
    uploads,
)

# One frame's trouble


@pytest.mark.parametrize("trouble", [303, 742, 304, bad_answer(404), bad_answer(200), bad_answer(500)])
def test_a_frame_the_server_keeps_refusing_to_store_delays_nobody_else(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox, trouble: int | Exception
) -> None:
    for number in range(10):
        delivered(ledger, claims, f"{number:04}")
    session = ScriptedSession(says=[], of_frame={"0000": trouble})
    sender = uploads(session, ledger, spool, reports)
    while sender.flush_once():
        pass
    assert ledger.counts()[LeaseState.ACCEPTED] == 9
    assert [lease.offer.frame for lease in ledger.leases(LeaseState.DELIVERED)] == ["0000"]


def test_each_frame_has_growing_waits_of_its_own(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    delivered(ledger, claims, "0001")
    session, clock, tried_at = ScriptedSession(says=[303] * 5), ManualClock(0.0), []
    sender = uploads(session, ledger, spool, reports, clock)
    for _ in range(200):
        before = len(session.uploads)
        sender.flush_once()
        if len(session.uploads) > before:
            tried_at.append(clock.now)
        clock.now += 1
    waits = [after - before for before, after in itertools.pairwise(tried_at)]
    assert len(waits) >= 4
    assert all(after > before for before, after in itertools.pairwise(waits))


def test_silence_delays_the_whole_session(ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox) -> None:
    for frame in ("0001", "0002"):
        delivered(ledger, claims, frame)
    session, clock = ScriptedSession(says=[None]), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    for _ in range(3):
        assert not sender.flush_once()
    assert len(session.uploads) == 1
    clock.now += 20
    try_again(sender, clock, 1)
    assert [upload.frame for upload in session.uploads] == ["0001", "0002", "0001"], "the one that failed comes last"


def test_silence_that_only_one_frame_meets_delays_that_frame_alone(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    bad = delivered(ledger, claims, "0000")
    session, clock = ScriptedSession(says=[], of_frame={"0000": None}), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    try_again(sender, clock, 1)
    for number in range(1, GIVEN_UP_ALONE + 2):
        delivered(ledger, claims, f"{number:04}")
        assert sender.flush_once()
        clock.now += 200
        sender.flush_once()
    assert ledger.counts()[LeaseState.ACCEPTED] == GIVEN_UP_ALONE + 1
    assert ledger.get(bad.id).state is LeaseState.FAILED, "everybody else gets through: it is this frame"


# No frame waits for ever


def test_a_frame_that_is_not_stored_while_others_are_is_given_up_with_a_report(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    bad = delivered(ledger, claims, "0000")
    session, clock = ScriptedSession(says=[], of_frame={"0000": 303}), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    for number in range(1, GIVEN_UP_ALONE + 2):
        assert ledger.get(bad.id).state is LeaseState.DELIVERED
        delivered(ledger, claims, f"{number:04}")
        try_again(sender, clock, 1)
    try_again(sender, clock, 1)
    assert ledger.get(bad.id).state is LeaseState.FAILED
    assert sender.idle()
    assert not spool.names()
    [(error_report, log)] = session.reports
    assert (error_report.job, error_report.frame, error_report.type) == ("77", "0000", ErrorType.NETWORK)
    assert "status 303" in log


@pytest.mark.parametrize(("synchronous", "tries"), [(False, GIVEN_UP_AFTER), (True, GIVEN_UP_SYNCHRONOUS)])
def test_a_server_that_stores_nothing_for_hours_loses_frames_in_the_end_and_gets_their_places_back(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox, synchronous: bool, tries: int
) -> None:
    lease = rendering(ledger, synchronous_upload=synchronous)
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    session, clock = ScriptedSession(says=[303] * tries), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    try_again(sender, clock, tries - 1)
    assert ledger.get(lease.id).state is LeaseState.DELIVERED
    try_again(sender, clock, 1)
    assert (ledger.get(lease.id).state, len(session.uploads)) == (LeaseState.FAILED, tries)


def test_silence_gives_up_nothing_however_long_it_lasts(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    lease, session, clock = delivered(ledger, claims), ScriptedSession(says=[None] * 200), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    try_again(sender, clock, 200)
    assert ledger.get(lease.id).state is LeaseState.DELIVERED
    try_again(sender, clock, 1)
    assert ledger.get(lease.id).state is LeaseState.ACCEPTED


def test_a_frame_that_was_cancelled_while_it_waited_is_forgotten(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    lease, session, clock = delivered(ledger, claims), ScriptedSession(says=[303]), ManualClock(1.0)
    sender = uploads(session, ledger, spool, reports, clock)
    sender.flush_once()
    ledger.apply(lease.id, LeaseEvent.CANCEL)
    try_again(sender, clock, 2)
    assert len(session.uploads) == 1


def test_threads_that_meet_the_same_silence_make_one_wait(
    ledger: Ledger, claims: Claims, spool: Spool, reports: ReportBox
) -> None:
    for number in ("0001", "0002"):
        delivered(ledger, claims, number)
    clock, session = ManualClock(1.0), SimultaneousSession(says=[None, None])
    sender = uploads(session, ledger, spool, reports, clock)
    with ThreadPoolExecutor(2) as pool:
        assert not any(pool.map(lambda _: sender.flush_once(), range(2)))
    clock.now += 12.5
    session.together = threading.Barrier(1)
    assert sender.flush_once(), "a second wait would be twice as long"
