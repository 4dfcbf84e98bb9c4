"""How a coordinator leaves: what is ready goes up, the rest goes back, and every session is logged out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import pytest

from coordinator.delivery.claims import Claims
from coordinator.leases.lease import LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.runtime.stop_request import StopRequest
from coordinator.runtime.wakeups import Wakeups
from coordinator.shutdown import GracefulShutdown
from coordinator.upstream.session_pool import SessionPool
from coordinator.upstream.session_workers import SessionLoops
from sheepfold.contract.api_messages import FailureKind
from tests.support.coordinator.builders import ClaimRecord, offer, rendering
from tests.support.coordinator.fakes import KEY, FakeSession


class LeavingSession(FakeSession):
    """Says when its exchanges were cut."""

    aborted = 0

    def abort(self) -> None:
        assert not self.logged_out, "what still waits for the server is cut before the log-out"
        self.aborted += 1


class FakeLoops:
    """The loops of the sessions; the uploads have ``to_send`` more things to send."""

    def __init__(self, wakeups: Wakeups) -> None:
        self.steps: list[str] = []
        self.to_send, self._wakeups = 0, wakeups
        self.on_look: Callable[[], object] = lambda: None

    def stop_asking(self) -> None:
        self.steps.append("stop asking")

    def join_asking(self, _timeout_s: float) -> bool:
        self.steps.append("questions ended")
        return True

    def can_send_more(self) -> bool:
        self.on_look()
        self.to_send -= 1
        return self.to_send >= 0

    def stop(self) -> None:
        self.steps.append("stop")


class ShutdownHarness:
    """Real leases and claims."""

    def __init__(self, ledger: Ledger, claims: Claims) -> None:
        self.session, self.wakeups, self.stop = LeavingSession(), Wakeups(), StopRequest()
        self.loops = FakeLoops(self.wakeups)
        self.cancelled: set[str | None] = set()
        self.all_cancelled = threading.Event()
        sessions = cast("SessionPool", {KEY: self.session})
        self.shutdown = GracefulShutdown(ledger, claims, sessions, cast("SessionLoops", self.loops), self, self.wakeups)

    def cancel(self, node_id: str | None, _lease_id: str, _attempt: int) -> None:
        self.cancelled.add(node_id)
        if "n2" in self.cancelled:
            self.all_cancelled.set()


@pytest.fixture
def harness(ledger: Ledger, claims: Claims, monkeypatch: pytest.MonkeyPatch) -> ShutdownHarness:
    monkeypatch.setattr("coordinator.shutdown.LOOK_EVERY_S", 0.0)
    return ShutdownHarness(ledger, claims)


def test_unfinished_frames_go_back_and_their_renderers_end(
    harness: ShutdownHarness, ledger: Ledger, claim_record: ClaimRecord
) -> None:
    ordered = ledger.apply(ledger.grant(offer("0001"), KEY).id, LeaseEvent.ORDER, node_id="n1")
    leases = [ledger.grant(offer("0000"), KEY), ordered, rendering(ledger, "0002", "n2")]
    harness.stop.ask()
    harness.shutdown.send_what_is_ready(harness.stop)
    assert [ledger.get(lease.id).state for lease in leases] == [LeaseState.FAILED] * 3
    assert {report.kind for _, report in claim_record.gave_up} == {FailureKind.NODE_LEAVING}
    assert harness.all_cancelled.wait(10)
    assert harness.loops.steps == ["stop asking", "questions ended", "stop"]


def test_what_is_ready_is_sent_before_the_uploads_end(harness: ShutdownHarness) -> None:
    harness.loops.to_send = 3
    harness.stop.ask()
    harness.shutdown.send_what_is_ready(harness.stop)
    assert harness.loops.to_send == -1
    assert harness.wakeups.uploading.is_set()


def test_a_person_who_waits_is_not_kept_by_a_server_that_takes_nothing(
    harness: ShutdownHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.shutdown.STOP_WITHIN_S", 3.05)
    harness.loops.to_send = 10**9
    harness.stop.ask()
    harness.shutdown.send_what_is_ready(harness.stop)
    assert harness.loops.to_send > 0


def test_after_a_refusal_uploads_have_time_until_a_person_asks(
    harness: ShutdownHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.shutdown.STOP_WITHIN_S", 3.0)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 50:
            harness.stop.ask()

    harness.loops.to_send, harness.loops.on_look = 10**9, look
    harness.stop.fail(ValueError("refused"))
    harness.shutdown.send_what_is_ready(harness.stop)
    assert looks == 50, "without the refusal none of these looks had been due, after the signal no more"


def test_every_session_is_cut_and_then_logged_out(harness: ShutdownHarness, ledger: Ledger) -> None:
    late = ledger.grant(offer("0001"), KEY)
    harness.shutdown.log_out_all()
    assert (harness.session.aborted, harness.session.logged_out) == (1, 1)
    assert ledger.get(late.id).state is LeaseState.FAILED, "granted at the last moment"


def test_a_server_that_does_not_answer_the_log_out_holds_nobody_up(
    harness: ShutdownHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.shutdown.LOG_OUT_S", 0.01)
    began, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        go_on.wait(10)

    monkeypatch.setattr(harness.session, "log_out", hang)
    harness.shutdown.log_out_all()
    assert began.is_set()
    assert not go_on.is_set()
    go_on.set()
