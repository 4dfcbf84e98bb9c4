"""Threads that run errands: as many as there is work, none lost, none too many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordinator.runtime import keyed_pool as crew_module
from coordinator.runtime.keyed_pool import KeyedThreadPool

SOON_S = 10.0


class Fatal(Exception):
    """Ends the farm."""


class RecordedErrors:
    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.heard = threading.Event()

    def __call__(self, error: Exception) -> None:
        self.errors.append(error)
        self.heard.set()


@pytest.fixture
def told() -> RecordedErrors:
    return RecordedErrors()


@pytest.fixture
def crew(told: RecordedErrors) -> Iterator[KeyedThreadPool]:
    made = KeyedThreadPool("errand", threads=8, at_once=3, fatal=Fatal, on_fatal=told)
    yield made
    made.stop()
    assert made.join(SOON_S)


class Work:
    """So many pieces; notes how many hands were at it together."""

    def __init__(self, pieces: int, pause: Callable[[], object] = lambda: None) -> None:
        self.pieces, self.pause = pieces, pause
        self.lock, self.hands, self.most = threading.Lock(), 0, 0
        self.done = threading.Event()

    def __call__(self) -> bool:
        with self.lock:
            if not self.pieces:
                self.done.set()
                return False
            self.pieces -= 1
            self.hands += 1
            self.most = max(self.most, self.hands)
        self.pause()
        with self.lock:
            self.hands -= 1
        return True


def test_an_errand_is_run_until_there_is_nothing_to_do(crew: KeyedThreadPool) -> None:
    work = Work(20)
    crew.submit("a", 1, work)
    assert work.done.wait(SOON_S)
    assert (work.pieces, work.most) == (0, 1)


def test_no_more_hands_than_are_wanted_and_no_more_than_are_allowed(crew: KeyedThreadPool) -> None:
    three = threading.Barrier(3, timeout=SOON_S)
    many = Work(9, three.wait)
    crew.submit("a", 50, many)
    assert many.done.wait(SOON_S)
    assert many.most == 3


def test_one_sessions_work_does_not_wait_for_anothers(crew: KeyedThreadPool) -> None:
    go_on = threading.Event()
    slow, quick = Work(3, lambda: go_on.wait(SOON_S)), Work(1)
    crew.submit("slow", 3, slow)
    crew.submit("quick", 1, quick)
    assert quick.done.wait(SOON_S)
    go_on.set()
    assert slow.done.wait(SOON_S)


def test_work_that_is_announced_while_the_last_hand_leaves_is_not_lost(crew: KeyedThreadPool) -> None:
    looking, announced = threading.Event(), threading.Event()
    calls = []

    def errand() -> bool:
        calls.append(1)
        if len(calls) == 1:
            looking.set()
            assert announced.wait(SOON_S)  # it has looked, and found nothing
        return False

    crew.submit("a", 1, errand)
    assert looking.wait(SOON_S)
    crew.submit("a", 1, errand)
    announced.set()
    assert crew.join(SOON_S)
    assert len(calls) == 2


def test_a_final_refusal_is_told(crew: KeyedThreadPool, told: RecordedErrors) -> None:
    def refused() -> bool:
        raise Fatal("no")

    crew.submit("a", 1, refused)
    assert told.heard.wait(SOON_S)


def test_an_unexpected_error_is_logged_and_the_next_errand_runs(
    crew: KeyedThreadPool, told: RecordedErrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(crew_module, "PAUSE_AFTER_ERROR_S", 0.0)

    def stumbles() -> bool:
        raise ValueError("oops")

    crew.submit("a", 1, stumbles)
    assert crew.join(SOON_S)
    work = Work(1)
    crew.submit("a", 1, work)
    assert work.done.wait(SOON_S)
    assert "oops" in caplog.text
    assert not told.errors


def test_whoever_stumbles_pauses_before_the_next_try(crew: KeyedThreadPool) -> None:
    tries = []

    def stumbles() -> bool:
        tries.append(1)
        raise ValueError("oops")

    for _ in range(5):
        crew.submit("a", 1, stumbles)
    assert not crew.join(0.2), "it holds its place while it pauses"
    assert len(tries) == 1


def test_after_the_stop_nothing_begins(crew: KeyedThreadPool) -> None:
    crew.stop()
    work = Work(1)
    crew.submit("a", 1, work)
    assert crew.join(SOON_S)
    assert work.pieces == 1


class TellingLock:
    """A lock that tells when it has just been released."""

    def __init__(self, inner: Any, on_release: Callable[[], None]) -> None:
        self._inner, self._on_release = inner, on_release

    def __enter__(self) -> None:
        self._inner.acquire()

    def __exit__(self, *_: object) -> None:
        self._inner.release()
        self._on_release()


def test_whoever_calls_between_a_hands_last_look_and_its_leaving_is_heard(crew: KeyedThreadPool) -> None:
    looks: list[int] = []
    called = threading.Event()

    def errand() -> bool:
        looks.append(1)
        return False

    def call_once() -> None:
        if looks and not called.is_set():
            called.set()
            crew.submit("a", 1, errand)

    crew._lock = TellingLock(crew._lock, call_once)  # type: ignore[assignment]
    crew.submit("a", 1, errand)
    assert called.wait(SOON_S)
    assert crew.join(SOON_S)
    assert len(looks) == 2


def test_errands_that_wait_for_a_thread_do_not_keep_a_stopped_crew(told: RecordedErrors) -> None:
    crew = KeyedThreadPool("errand", threads=1, at_once=1, fatal=Fatal, on_fatal=told)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        assert go_on.wait(SOON_S)
        return False

    never = Work(1)
    crew.submit("slow", 1, slow)
    assert begun.wait(SOON_S)
    crew.submit("waits", 1, never)
    crew.stop()
    go_on.set()
    assert crew.join(SOON_S)
    assert never.pieces == 1
