from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from coordinator.runtime import periodic as loops
from coordinator.runtime.periodic import PeriodicThread

SOON_S = 10.0
FOR_EVER_S = 3600.0


class Refused(Exception):
    """Ends a loop."""


class Rounds:
    """What a loop calls: does what ``then`` says, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self.then: Callable[[int], float] = lambda _count: FOR_EVER_S
        self._changed = threading.Condition()

    def __call__(self) -> float:
        with self._changed:
            self.count += 1
            count = self.count
            self._changed.notify_all()
        return self.then(count)

    def reach(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, SOON_S)


class PeriodicHarness:
    def __init__(self) -> None:
        self.rounds, self.fatal, self.wake = Rounds(), [], threading.Event()
        self.ended = threading.Event()
        self.loop = PeriodicThread("test loop", self.rounds, fatal=Refused, on_fatal=self._on_fatal, wake=self.wake)

    def _on_fatal(self, error: Exception) -> None:
        self.fatal.append(error)
        self.ended.set()


@pytest.fixture
def harness() -> Iterator[PeriodicHarness]:
    harness = PeriodicHarness()
    yield harness
    harness.loop.stop()
    harness.loop.join(SOON_S)


def test_a_loop_begins_at_once_and_waits_as_long_as_it_was_told(harness: PeriodicHarness) -> None:
    harness.loop.start()
    assert harness.rounds.reach(1)
    assert not harness.loop.join(0.05), "it goes on"
    assert harness.rounds.count == 1


def test_no_wait_means_again_at_once(harness: PeriodicHarness) -> None:
    harness.rounds.then = lambda count: 0 if count < 5 else FOR_EVER_S
    harness.loop.start()
    assert harness.rounds.reach(5)


def test_a_wake_cuts_the_wait_short(harness: PeriodicHarness) -> None:
    harness.loop.start()
    for count in (1, 2, 3):
        assert harness.rounds.reach(count)
        harness.loop.wake()
    assert harness.rounds.reach(4)


def test_a_wake_in_the_middle_of_a_round_is_not_lost(harness: PeriodicHarness) -> None:
    def wake_once(count: int) -> float:
        if count == 1:
            harness.wake.set()
        return FOR_EVER_S

    harness.rounds.then = wake_once
    harness.loop.start()
    assert harness.rounds.reach(2)


def test_a_wake_counts_once(harness: PeriodicHarness) -> None:
    harness.wake.set()
    harness.loop.start()
    assert harness.rounds.reach(1)
    harness.loop.join(0.05)
    assert harness.rounds.count == 1


def test_an_error_nobody_expected_is_told_and_the_loop_goes_on(
    harness: PeriodicHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "PAUSE_AFTER_ERROR_S", 0.01)

    def stumble(count: int) -> float:
        if count < 3:
            raise ValueError("the unexpected")
        return FOR_EVER_S

    harness.rounds.then = stumble
    harness.loop.start()
    assert harness.rounds.reach(3)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "test loop" in caplog.text
    assert "the unexpected" in caplog.text
    assert not harness.fatal


def test_a_loop_pauses_after_an_error_instead_of_flooding_the_log(harness: PeriodicHarness) -> None:
    def stumble(_count: int) -> float:
        raise ValueError

    harness.rounds.then = stumble
    harness.loop.start()
    assert harness.rounds.reach(1)
    harness.loop.join(0.1)
    assert harness.rounds.count == 1


def test_a_fatal_error_ends_the_loop_and_is_handed_on(harness: PeriodicHarness) -> None:
    error = Refused("201")

    def refuse(_count: int) -> float:
        raise error

    harness.rounds.then = refuse
    harness.loop.start()
    assert harness.ended.wait(SOON_S)
    assert harness.loop.join(SOON_S)
    assert harness.fatal == [error]
    assert harness.rounds.count == 1


@pytest.mark.parametrize("wait_s", [0.0, FOR_EVER_S])
def test_a_loop_stops_when_asked(harness: PeriodicHarness, wait_s: float) -> None:
    harness.rounds.then = lambda _count: wait_s
    harness.loop.start()
    assert harness.rounds.reach(1)
    harness.loop.stop()
    assert harness.loop.join(SOON_S)


def test_a_stop_in_the_middle_of_a_round_lets_the_round_end_and_no_other_begin(harness: PeriodicHarness) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_count: int) -> float:
        begun.set()
        assert go_on.wait(SOON_S)
        return 0

    harness.rounds.then = slow
    harness.loop.start()
    assert begun.wait(SOON_S)
    harness.loop.stop()
    assert not harness.loop.join(0.05)
    go_on.set()
    assert harness.loop.join(SOON_S)
    assert harness.rounds.count == 1


def test_a_loop_that_was_stopped_before_it_began_does_nothing(harness: PeriodicHarness) -> None:
    harness.loop.stop()
    harness.loop.start()
    assert harness.loop.join(SOON_S)
    assert harness.rounds.count == 0


def test_a_stumbling_loop_stops_without_waiting_its_pause_out(harness: PeriodicHarness) -> None:
    def stumble(_count: int) -> float:
        raise ValueError

    harness.rounds.then = stumble
    harness.loop.start()
    assert harness.rounds.reach(1)
    harness.loop.stop()
    assert harness.loop.join(loops.PAUSE_AFTER_ERROR_S / 2)
