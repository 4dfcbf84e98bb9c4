"""What runs for the sessions, with uploads and a requester that only note what they are asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from coordinator.leases.lease import Delivery, Lease, LeaseEvent
from coordinator.leases.ledger import Ledger
from coordinator.runtime.wakeups import Wakeups
from coordinator.settings import SessionMode
from coordinator.upstream import session_workers as session_loops
from coordinator.upstream.errors import FatalRefusal
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_pool import SessionPool
from coordinator.upstream.session_state import SessionState
from coordinator.upstream.session_workers import SessionLoops
from coordinator.upstream.signing_in import DescribedMachine
from coordinator.upstream.uploads.session_uploads import SessionUploads
from sheepfold.contract.presence import Presence
from sheepfold.protocol.session_messages import Hardware
from tests.support.coordinator.builders import offer, rendering
from tests.support.coordinator.fakes import ENDPOINTS, HARDWARE, KEY, FakeSession, node

SOON_S = 10.0
DELIVERY = Delivery(picture="a.1.png", size=1, render_s=1.0, memory_kb=1, cores=1)


class FakeUploads:
    """Sends ``waiting`` things, one a call."""

    def __init__(self) -> None:
        self.waiting, self.flushed, self.report_waits = 0, 0, False
        self.holds = 0
        self.looked, self.sent_all = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def flush_once(self) -> bool:
        self.looked.set()
        if self.error is not None:
            raise self.error
        if not self.waiting:
            return False
        self.waiting -= 1
        self.flushed += 1
        if not self.waiting:
            self.sent_all.set()
        return True

    def pending(self) -> int:
        return self.waiting + self.report_waits

    def held(self) -> int:
        return self.holds

    def idle(self) -> bool:
        return self.pending() == 0


class FakeRequester:
    """Gives frames while there are some; there is always a place for one more."""

    def __init__(self) -> None:
        self.frames, self.places = 0, 1
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.on_ask: Callable[[], None] = lambda: None
        self.looked = threading.Event()

    def wanted(self, _session_key: str) -> int:
        return self.places

    def ask_once(self, session: FarmSession) -> bool:
        self.asked.append(session.key)
        self.on_ask()
        self.looked.set()
        if self.error is not None:
            raise self.error
        if not self.frames:
            return False
        self.frames -= 1
        return True


class WorkersHarness:
    def __init__(self, ledger: Ledger, mode: SessionMode = SessionMode.FARM) -> None:
        self.ledger, self.requester = ledger, FakeRequester()
        self.sessions: dict[str, FakeSession] = {}
        self.uploads: dict[str, FakeUploads] = {}
        self.made: list[str] = []
        self.present: dict[str, Presence] = {"n1": node()}
        self.lost: list[str] = []
        self.fatal: list[Exception] = []
        self.ended, self.wakeups = threading.Event(), Wakeups()
        self.account = SessionPool(mode, self._make).open(HARDWARE)
        self.on_making: Callable[[], None] = lambda: None
        self.loops = SessionLoops(
            self.account,
            ledger,
            self.requester,
            self._make_uploads,
            self,
            self.wakeups,
            self,
        )

    def _make(self, key: str, hardware: Hardware) -> FarmSession:
        self.sessions[key] = FakeSession(key=key, machine=DescribedMachine(hardware=hardware))
        return cast("FarmSession", self.sessions[key])

    def _make_uploads(self, session: FarmSession) -> SessionUploads:
        self.on_making()
        self.made.append(session.key)
        return cast("SessionUploads", self.uploads.setdefault(session.key, FakeUploads()))

    def lose(self, lease: Lease, _reason: str) -> None:
        self.lost.append(lease.id)

    def fail(self, error: Exception) -> None:
        self.fatal.append(error)
        self.ended.set()

    def ask_round(self) -> float:
        """One look at who may ask, and the end of what came of it."""
        self.loops.open_new()
        wait_s = self.loops._ask_round()
        assert self.loops.join_asking(SOON_S)
        return wait_s

    def upload_round(self) -> None:
        """One look at who has something to send, and the end of what came of it."""
        self.loops.open_new()
        self.loops._upload_round()
        assert self.loops._uploading.join(SOON_S)

    def threads(self) -> list[str]:
        return sorted(thread.name for thread in threading.enumerate() if thread.name in ("ask", "upload"))


@pytest.fixture
def harness(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkersHarness]:
    # Whatever happens soon happens because somebody woke the loop.
    monkeypatch.setattr(session_loops, "IDLE_S", 3600.0)
    harness = WorkersHarness(ledger)
    yield harness
    harness.loops.stop()
    for thread in threading.enumerate():
        if thread.name in ("ask", "upload"):
            thread.join(SOON_S)
    assert harness.threads() == [], "no loop outlives its farm"


def test_two_threads_look_after_all_sessions(harness: WorkersHarness) -> None:
    harness.loops.start()
    assert harness.threads() == ["ask", "upload"]
    harness.present["w"] = node("w", hardware={"os": "windows"})
    harness.account.assign(harness.present)
    harness.loops.open_new()
    harness.loops.open_new()
    assert harness.threads() == ["ask", "upload"]
    assert harness.made == [KEY, "farm:windows/64bit"]


def test_threads_that_open_at_the_same_time_open_each_session_once(harness: WorkersHarness) -> None:
    # The main thread and the first sweep do.
    first_is_in, start = threading.Event(), threading.Barrier(4)

    def linger() -> None:
        first_is_in.set()
        threading.Event().wait(0.05)

    harness.on_making = linger

    def open_new() -> None:
        start.wait(SOON_S)
        harness.loops.open_new()

    threads = [threading.Thread(target=open_new) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert first_is_in.is_set()
    assert harness.made == [KEY], "two uploaders would send a frame twice"


def test_nothing_is_opened_once_asking_has_stopped(harness: WorkersHarness) -> None:
    harness.loops.open_new()
    harness.loops.stop_asking()
    harness.present["w"] = node("w", hardware={"os": "windows"})
    harness.account.assign(harness.present)
    harness.loops.open_new()
    assert harness.made == [KEY]


def test_a_session_asks_until_there_is_no_frame(harness: WorkersHarness) -> None:
    harness.requester.frames = 3
    harness.ask_round()
    assert harness.requester.asked == [KEY] * 4


def test_one_tries_whether_there_are_frames_and_more_ask_when_there_are(harness: WorkersHarness) -> None:
    harness.requester.places = 50
    asking, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(session_loops.ASKS_AT_ONCE, timeout=SOON_S)

    def count() -> None:
        nonlocal asking, most
        with lock:
            asking, most = asking + 1, max(most, asking + 1)
        if harness.sessions[KEY].is_flowing:
            together.wait()
        with lock:
            asking -= 1

    harness.requester.on_ask = count
    harness.ask_round()
    assert most == 1
    harness.sessions[KEY].is_flowing = True
    harness.ask_round()
    assert most == session_loops.ASKS_AT_ONCE


def test_the_first_frame_calls_the_others(harness: WorkersHarness) -> None:
    harness.loops.open_new()
    harness.requester.frames = 1
    harness.loops._ask._wake.clear()
    harness.ask_round()
    assert harness.loops._ask._wake.is_set()


def test_a_session_without_a_free_place_asks_for_nothing(harness: WorkersHarness) -> None:
    harness.requester.places = 0
    harness.ask_round()
    assert not harness.requester.asked


def test_a_session_that_holds_as_many_frames_as_the_server_gives_asks_for_none(harness: WorkersHarness) -> None:
    harness.loops.open_new()

    def no_job() -> None:
        harness.sessions[KEY].no_job_answers += 1
        harness.sessions[KEY].no_job_until = time.monotonic() + 100

    harness.requester.on_ask = no_job
    harness.uploads[KEY].holds = 3
    for _ in range(3):
        harness.ask_round()
    assert harness.requester.asked == [KEY]
    harness.uploads[KEY].holds = 2
    harness.ask_round()
    assert harness.requester.asked == [KEY] * 2


def test_a_session_that_was_told_to_wait_is_left_alone_until_then(harness: WorkersHarness) -> None:
    harness.loops.open_new()
    harness.sessions[KEY].rests_until = time.monotonic() + 100
    assert 90 < harness.ask_round() <= 100, "the loop wakes when the wait is over"
    assert not harness.requester.asked


def test_a_session_that_is_not_signed_in_signs_in_though_there_is_no_place(harness: WorkersHarness) -> None:
    harness.loops.open_new()
    harness.requester.places = 0
    session = harness.sessions[KEY]
    session.state, session.signed_in = SessionState.SIGNED_OUT, False
    signed_in = threading.Event()
    session.ensure_signed_in = lambda: signed_in.set() or False  # type: ignore[method-assign]
    harness.ask_round()
    assert signed_in.is_set(), "a wrong password is told at once"
    assert not harness.requester.asked


def test_what_was_sent_makes_room_to_ask_for_more(harness: WorkersHarness) -> None:
    harness.loops.start()
    assert harness.requester.looked.wait(SOON_S)
    harness.requester.looked.clear()
    harness.uploads[KEY].waiting = 2
    harness.wakeups.uploading.set()
    assert harness.uploads[KEY].sent_all.wait(SOON_S)
    assert harness.requester.looked.wait(SOON_S), "it does not wait for its own time"


def test_after_asking_has_stopped_frames_still_go_up(harness: WorkersHarness) -> None:
    harness.loops.start()
    harness.loops.stop_asking()
    assert harness.loops.join_asking(SOON_S)
    for thread in threading.enumerate():
        if thread.name == "ask":
            thread.join(SOON_S)
    assert harness.threads() == ["upload"]
    harness.uploads[KEY].waiting = 3
    assert harness.loops.can_send_more()
    harness.wakeups.uploading.set()
    assert harness.uploads[KEY].sent_all.wait(SOON_S)
    assert not harness.loops.can_send_more()
    assert harness.uploads[KEY].flushed == 3


def test_reports_that_wait_are_worth_waiting_for(harness: WorkersHarness) -> None:
    harness.loops.open_new()
    assert not harness.loops.can_send_more()
    harness.uploads[KEY].report_waits = True
    assert harness.loops.can_send_more()


def test_frames_that_nobody_can_send_any_more_are_not_waited_for(harness: WorkersHarness) -> None:
    harness.uploads[KEY] = FakeUploads()
    harness.uploads[KEY].error = FatalRefusal("the server does not accept login and password (status 102)")
    harness.uploads[KEY].report_waits = True
    harness.upload_round()
    assert harness.ended.is_set()
    assert not harness.loops.can_send_more()


def test_a_question_under_way_is_waited_for_but_not_for_ever(harness: WorkersHarness) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow() -> None:
        asked.set()
        answered.wait(SOON_S)

    harness.requester.on_ask = slow
    harness.loops.start()
    assert asked.wait(SOON_S)
    harness.loops.stop_asking()
    assert not harness.loops.join_asking(0.05)
    answered.set()
    assert harness.loops.join_asking(SOON_S)


def test_a_refusal_for_good_ends_the_farm(harness: WorkersHarness) -> None:
    harness.requester.error = FatalRefusal("the account has no right to render (status 201)")
    harness.loops.start()
    assert harness.ended.wait(SOON_S)
    assert str(harness.fatal[0]).endswith("(status 201)")


# A disabled session (203)


@pytest.mark.parametrize("events", [[], ["order"], ["order", "start"], ["order", "start", "deliver"]])
def test_a_disabled_session_is_logged_out_only_after_its_last_frame(harness: WorkersHarness, events: list[str]) -> None:
    harness.sessions[KEY].state = SessionState.DISABLED
    lease = harness.ledger.grant(offer(), KEY)
    for event in events:
        details: dict[str, Any] = {"order": {"node_id": "n1"}, "deliver": {"delivery": DELIVERY}}.get(event, {})
        lease = harness.ledger.apply(lease.id, LeaseEvent(event), **details)
    harness.upload_round()
    assert harness.sessions[KEY].logged_out == 0, f"one frame is {lease.state}"

    harness.ledger.apply(lease.id, LeaseEvent.CANCEL)
    harness.upload_round()
    assert harness.sessions[KEY].logged_out == 1


def test_a_disabled_session_sends_its_error_reports_before_it_leaves(harness: WorkersHarness) -> None:
    harness.sessions[KEY].state = SessionState.DISABLED
    harness.uploads[KEY] = FakeUploads()
    harness.uploads[KEY].report_waits = True
    harness.upload_round()
    assert harness.sessions[KEY].logged_out == 0
    harness.uploads[KEY].report_waits = False
    harness.upload_round()
    assert harness.sessions[KEY].logged_out == 1


def test_a_disabled_session_is_logged_out_once(harness: WorkersHarness) -> None:
    harness.sessions[KEY].state = SessionState.DISABLED
    for _ in range(3):
        harness.upload_round()
    assert harness.sessions[KEY].logged_out == 1


def test_frames_of_a_disabled_session_that_takes_nothing_more_are_lost(harness: WorkersHarness) -> None:
    harness.sessions[KEY].state, harness.sessions[KEY].died = SessionState.DISABLED, 1
    lease = rendering(harness.ledger)
    harness.ledger.grant(offer("0100"), "node:other")
    harness.upload_round()
    assert harness.lost == [lease.id]
    assert harness.sessions[KEY].logged_out == 0


def test_frames_of_a_disabled_session_are_not_lost_while_it_takes_them(harness: WorkersHarness) -> None:
    harness.sessions[KEY].state = SessionState.DISABLED
    rendering(harness.ledger)
    harness.upload_round()
    assert not harness.lost


def test_another_sessions_frames_do_not_keep_a_disabled_one(harness: WorkersHarness) -> None:
    harness.sessions[KEY].state = SessionState.DISABLED
    harness.ledger.grant(offer(), "node:other")
    harness.upload_round()
    assert harness.sessions[KEY].logged_out == 1


@pytest.mark.parametrize("state", [SessionState.SIGNED_IN, SessionState.SIGNED_OUT])
def test_a_session_in_good_standing_stays(harness: WorkersHarness, state: SessionState) -> None:
    harness.sessions[KEY].state = state
    rendering(harness.ledger)
    harness.upload_round()
    assert (harness.sessions[KEY].logged_out, harness.sessions[KEY].endpoints) == (0, ENDPOINTS)
