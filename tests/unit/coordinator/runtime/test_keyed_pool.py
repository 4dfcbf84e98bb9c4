"""Threads that run jobs: as many as there is work, none lost, none too many."""

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
def errors() -> RecordedErrors:
    return RecordedErrors()


@pytest.fixture
def pool(errors: RecordedErrors) -> Iterator[KeyedThreadPool]:
    pool = KeyedThreadPool("job", threads=8, at_once=3, fatal=Fatal, on_fatal=errors)
    yield pool
    pool.stop()
    assert pool.join(SOON_S)


class Work:
    """So many pieces; notes how many threads were at it together."""

    def __init__(self, pieces: int, pause: Callable[[], object] = lambda: None) -> None:
        self.pieces, self.pause = pieces, pause
        self.lock, self.running, self.most = threading.Lock(), 0, 0
        self.done = threading.Event()

    def __call__(self) -> bool:
        with self.lock:
            if not self.pieces:
                self.done.set()
                return False
            self.pieces -= 1
            self.running += 1
            self.most = max(self.most, self.running)
        self.pause()
        with self.lock:
            self.running -= 1
        return True


def test_a_job_is_run_until_there_is_nothing_to_do(pool: KeyedThreadPool) -> None:
    work = Work(20)
    pool.submit("a", 1, work)
    assert work.done.wait(SOON_S)
    assert (work.pieces, work.most) == (0, 1)


def test_no_more_threads_than_are_wanted_and_no_more_than_are_allowed(pool: KeyedThreadPool) -> None:
    three = threading.Barrier(3, timeout=SOON_S)
    many = Work(9, three.wait)
    pool.submit("a", 50, many)
    assert many.done.wait(SOON_S)
    assert many.most == 3


def test_one_sessions_work_does_not_wait_for_anothers(pool: KeyedThreadPool) -> None:
    go_on = threading.Event()
    slow, quick = Work(3, lambda: go_on.wait(SOON_S)), Work(1)
    pool.submit("slow", 3, slow)
    pool.submit("quick", 1, quick)
    assert quick.done.wait(SOON_S)
    go_on.set()
    assert slow.done.wait(SOON_S)


def test_work_that_is_announced_while_the_last_hand_leaves_is_not_lost(pool: KeyedThreadPool) -> None:
    looking, announced = threading.Event(), threading.Event()
    calls = []

    def job() -> bool:
        calls.append(1)
        if len(calls) == 1:
            looking.set()
            assert announced.wait(SOON_S)  # it has looked, and found nothing
        return False

    pool.submit("a", 1, job)
    assert looking.wait(SOON_S)
    pool.submit("a", 1, job)
    announced.set()
    assert pool.join(SOON_S)
    assert len(calls) == 2


def test_a_final_refusal_is_told(pool: KeyedThreadPool, errors: RecordedErrors) -> None:
    def refused() -> bool:
        raise Fatal("no")

    pool.submit("a", 1, refused)
    assert errors.heard.wait(SOON_S)


def test_an_unexpected_error_is_logged_and_the_next_job_runs(
    pool: KeyedThreadPool, errors: RecordedErrors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(crew_module, "PAUSE_AFTER_ERROR_S", 0.0)

    def stumbles() -> bool:
        raise ValueError("oops")

    pool.submit("a", 1, stumbles)
    assert pool.join(SOON_S)
    work = Work(1)
    pool.submit("a", 1, work)
    assert work.done.wait(SOON_S)
    assert "oops" in caplog.text
    assert not errors.errors


def test_whoever_stumbles_pauses_before_the_next_try(pool: KeyedThreadPool) -> None:
    tries = []

    def stumbles() -> bool:
        tries.append(1)
        raise ValueError("oops")

    for _ in range(5):
        pool.submit("a", 1, stumbles)
    assert not pool.join(0.2), "it holds its place while it pauses"
    assert len(tries) == 1


def test_after_the_stop_nothing_begins(pool: KeyedThreadPool) -> None:
    pool.stop()
    work = Work(1)
    pool.submit("a", 1, work)
    assert pool.join(SOON_S)
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


def test_whoever_calls_between_a_threads_last_look_and_its_leaving_is_heard(pool: KeyedThreadPool) -> None:
    looks: list[int] = []
    called = threading.Event()

    def job() -> bool:
        looks.append(1)
        return False

    def call_once() -> None:
        if looks and not called.is_set():
            called.set()
            pool.submit("a", 1, job)

    pool._lock = TellingLock(pool._lock, call_once)  # type: ignore[assignment]
    pool.submit("a", 1, job)
    assert called.wait(SOON_S)
    assert pool.join(SOON_S)
    assert len(looks) == 2


def test_jobs_that_wait_for_a_thread_do_not_keep_a_stopped_pool(errors: RecordedErrors) -> None:
    pool = KeyedThreadPool("job", threads=1, at_once=1, fatal=Fatal, on_fatal=errors)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        assert go_on.wait(SOON_S)
        return False

    never = Work(1)
    pool.submit("slow", 1, slow)
    assert begun.wait(SOON_S)
    pool.submit("waits", 1, never)
    pool.stop()
    go_on.set()
    assert pool.join(SOON_S)
    assert never.pieces == 1
