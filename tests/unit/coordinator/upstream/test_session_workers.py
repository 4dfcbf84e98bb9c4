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
def stage(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkersHarness]:
    # Whatever happens soon happens because somebody woke the loop.
    monkeypatch.setattr(session_loops, "IDLE_S", 3600.0)
    made = WorkersHarness(ledger)
    yield made
    made.loops.stop()
    for thread in threading.enumerate():
        if thread.name in ("ask", "upload"):
            thread.join(SOON_S)
    assert made.threads() == [], "no loop outlives its farm"


def test_two_threads_look_after_all_sessions(stage: WorkersHarness) -> None:
    stage.loops.start()
    assert stage.threads() == ["ask", "upload"]
    stage.present["w"] = node("w", hardware={"os": "windows"})
    stage.account.assign(stage.present)
    stage.loops.open_new()
    stage.loops.open_new()
    assert stage.threads() == ["ask", "upload"]
    assert stage.made == [KEY, "farm:windows/64bit"]


def test_threads_that_open_at_the_same_time_open_each_session_once(stage: WorkersHarness) -> None:
    # The main thread and the first sweep do.
    first_is_in, start = threading.Event(), threading.Barrier(4)

    def linger() -> None:
        first_is_in.set()
        threading.Event().wait(0.05)

    stage.on_making = linger

    def open_new() -> None:
        start.wait(SOON_S)
        stage.loops.open_new()

    threads = [threading.Thread(target=open_new) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert first_is_in.is_set()
    assert stage.made == [KEY], "two uploaders would send a frame twice"


def test_nothing_is_opened_once_asking_has_stopped(stage: WorkersHarness) -> None:
    stage.loops.open_new()
    stage.loops.stop_asking()
    stage.present["w"] = node("w", hardware={"os": "windows"})
    stage.account.assign(stage.present)
    stage.loops.open_new()
    assert stage.made == [KEY]


def test_a_session_asks_until_there_is_no_frame(stage: WorkersHarness) -> None:
    stage.requester.frames = 3
    stage.ask_round()
    assert stage.requester.asked == [KEY] * 4


def test_one_tries_whether_there_are_frames_and_more_ask_when_there_are(stage: WorkersHarness) -> None:
    stage.requester.places = 50
    hands, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(session_loops.ASKS_AT_ONCE, timeout=SOON_S)

    def count() -> None:
        nonlocal hands, most
        with lock:
            hands, most = hands + 1, max(most, hands + 1)
        if stage.sessions[KEY].is_flowing:
            together.wait()
        with lock:
            hands -= 1

    stage.requester.on_ask = count
    stage.ask_round()
    assert most == 1
    stage.sessions[KEY].is_flowing = True
    stage.ask_round()
    assert most == session_loops.ASKS_AT_ONCE


def test_the_first_frame_calls_the_others(stage: WorkersHarness) -> None:
    stage.loops.open_new()
    stage.requester.frames = 1
    stage.loops._ask._wake.clear()
    stage.ask_round()
    assert stage.loops._ask._wake.is_set()


def test_a_session_without_a_free_place_asks_for_nothing(stage: WorkersHarness) -> None:
    stage.requester.places = 0
    stage.ask_round()
    assert not stage.requester.asked


def test_a_session_that_holds_as_many_frames_as_the_server_gives_asks_for_none(stage: WorkersHarness) -> None:
    stage.loops.open_new()

    def no_job() -> None:
        stage.sessions[KEY].no_job_answers += 1
        stage.sessions[KEY].no_job_until = time.monotonic() + 100

    stage.requester.on_ask = no_job
    stage.uploads[KEY].holds = 3
    for _ in range(3):
        stage.ask_round()
    assert stage.requester.asked == [KEY]
    stage.uploads[KEY].holds = 2
    stage.ask_round()
    assert stage.requester.asked == [KEY] * 2


def test_a_session_that_was_told_to_wait_is_left_alone_until_then(stage: WorkersHarness) -> None:
    stage.loops.open_new()
    stage.sessions[KEY].rests_until = time.monotonic() + 100
    assert 90 < stage.ask_round() <= 100, "the loop wakes when the wait is over"
    assert not stage.requester.asked


def test_a_session_that_is_not_signed_in_signs_in_though_there_is_no_place(stage: WorkersHarness) -> None:
    stage.loops.open_new()
    stage.requester.places = 0
    session = stage.sessions[KEY]
    session.state, session.signed_in = SessionState.SIGNED_OUT, False
    signed_in = threading.Event()
    session.ensure_signed_in = lambda: signed_in.set() or False  # type: ignore[method-assign]
    stage.ask_round()
    assert signed_in.is_set(), "a wrong password is told at once"
    assert not stage.requester.asked


def test_what_was_sent_makes_room_to_ask_for_more(stage: WorkersHarness) -> None:
    stage.loops.start()
    assert stage.requester.looked.wait(SOON_S)
    stage.requester.looked.clear()
    stage.uploads[KEY].waiting = 2
    stage.wakeups.uploading.set()
    assert stage.uploads[KEY].sent_all.wait(SOON_S)
    assert stage.requester.looked.wait(SOON_S), "it does not wait for its own time"


def test_after_asking_has_stopped_frames_still_go_up(stage: WorkersHarness) -> None:
    stage.loops.start()
    stage.loops.stop_asking()
    assert stage.loops.join_asking(SOON_S)
    for thread in threading.enumerate():
        if thread.name == "ask":
            thread.join(SOON_S)
    assert stage.threads() == ["upload"]
    stage.uploads[KEY].waiting = 3
    assert stage.loops.can_send_more()
    stage.wakeups.uploading.set()
    assert stage.uploads[KEY].sent_all.wait(SOON_S)
    assert not stage.loops.can_send_more()
    assert stage.uploads[KEY].flushed == 3


def test_reports_that_wait_are_worth_waiting_for(stage: WorkersHarness) -> None:
    stage.loops.open_new()
    assert not stage.loops.can_send_more()
    stage.uploads[KEY].report_waits = True
    assert stage.loops.can_send_more()


def test_frames_that_nobody_can_send_any_more_are_not_waited_for(stage: WorkersHarness) -> None:
    stage.uploads[KEY] = FakeUploads()
    stage.uploads[KEY].error = FatalRefusal("the server does not accept login and password (status 102)")
    stage.uploads[KEY].report_waits = True
    stage.upload_round()
    assert stage.ended.is_set()
    assert not stage.loops.can_send_more()


def test_a_question_under_way_is_waited_for_but_not_for_ever(stage: WorkersHarness) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow() -> None:
        asked.set()
        answered.wait(SOON_S)

    stage.requester.on_ask = slow
    stage.loops.start()
    assert asked.wait(SOON_S)
    stage.loops.stop_asking()
    assert not stage.loops.join_asking(0.05)
    answered.set()
    assert stage.loops.join_asking(SOON_S)


def test_a_refusal_for_good_ends_the_farm(stage: WorkersHarness) -> None:
    stage.requester.error = FatalRefusal("the account has no right to render (status 201)")
    stage.loops.start()
    assert stage.ended.wait(SOON_S)
    assert str(stage.fatal[0]).endswith("(status 201)")


# A disabled session (203)


@pytest.mark.parametrize("events", [[], ["order"], ["order", "start"], ["order", "start", "deliver"]])
def test_a_disabled_session_is_logged_out_only_after_its_last_frame(stage: WorkersHarness, events: list[str]) -> None:
    stage.sessions[KEY].state = SessionState.DISABLED
    lease = stage.ledger.grant(offer(), KEY)
    for event in events:
        details: dict[str, Any] = {"order": {"node_id": "n1"}, "deliver": {"delivery": DELIVERY}}.get(event, {})
        lease = stage.ledger.apply(lease.id, LeaseEvent(event), **details)
    stage.upload_round()
    assert stage.sessions[KEY].logged_out == 0, f"one frame is {lease.state}"

    stage.ledger.apply(lease.id, LeaseEvent.CANCEL)
    stage.upload_round()
    assert stage.sessions[KEY].logged_out == 1


def test_a_disabled_session_sends_its_error_reports_before_it_leaves(stage: WorkersHarness) -> None:
    stage.sessions[KEY].state = SessionState.DISABLED
    stage.uploads[KEY] = FakeUploads()
    stage.uploads[KEY].report_waits = True
    stage.upload_round()
    assert stage.sessions[KEY].logged_out == 0
    stage.uploads[KEY].report_waits = False
    stage.upload_round()
    assert stage.sessions[KEY].logged_out == 1


def test_a_disabled_session_is_logged_out_once(stage: WorkersHarness) -> None:
    stage.sessions[KEY].state = SessionState.DISABLED
    for _ in range(3):
        stage.upload_round()
    assert stage.sessions[KEY].logged_out == 1


def test_frames_of_a_disabled_session_that_takes_nothing_more_are_lost(stage: WorkersHarness) -> None:
    stage.sessions[KEY].state, stage.sessions[KEY].died = SessionState.DISABLED, 1
    lease = rendering(stage.ledger)
    stage.ledger.grant(offer("0100"), "node:other")
    stage.upload_round()
    assert stage.lost == [lease.id]
    assert stage.sessions[KEY].logged_out == 0


def test_frames_of_a_disabled_session_are_not_lost_while_it_takes_them(stage: WorkersHarness) -> None:
    stage.sessions[KEY].state = SessionState.DISABLED
    rendering(stage.ledger)
    stage.upload_round()
    assert not stage.lost


def test_another_sessions_frames_do_not_keep_a_disabled_one(stage: WorkersHarness) -> None:
    stage.sessions[KEY].state = SessionState.DISABLED
    stage.ledger.grant(offer(), "node:other")
    stage.upload_round()
    assert stage.sessions[KEY].logged_out == 1


@pytest.mark.parametrize("state", [SessionState.SIGNED_IN, SessionState.SIGNED_OUT])
def test_a_session_in_good_standing_stays(stage: WorkersHarness, state: SessionState) -> None:
    stage.sessions[KEY].state = state
    rendering(stage.ledger)
    stage.upload_round()
    assert (stage.sessions[KEY].logged_out, stage.sessions[KEY].endpoints) == (0, ENDPOINTS)
