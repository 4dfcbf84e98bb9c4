"""How wrong guesses slow the next ones down; the clock is the test's."""

from __future__ import annotations

import pytest

from sheepfold.serving.guesses import FORGOTTEN_AFTER_S, FREE_GUESSES, MOST_NAMES, PAUSE_CAP_S, GuessBrake
from tests.support.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_person_may_mistype_and_a_machine_has_to_wait(clock: ManualClock) -> None:
    brake = GuessBrake(clock)
    for _ in range(FREE_GUESSES):
        assert brake.wait_s("anna") == 0
        brake.wrong("anna")
    guessed = 0
    while clock.now < 1000 + 3600:
        clock.now += brake.wait_s("anna")
        brake.wrong("anna")
        guessed += 1
    assert guessed < 70, "guesses in the first hour"
    assert brake.wait_s("anna") == PAUSE_CAP_S


def test_others_do_not_wait_and_a_right_one_ends_the_pause(clock: ManualClock) -> None:
    brake = GuessBrake(clock)
    for _ in range(20):
        brake.wrong("anna")
    assert brake.wait_s("ben") == 0
    brake.right("anna")
    assert brake.wait_s("anna") == 0


def test_it_is_forgotten(clock: ManualClock) -> None:
    brake = GuessBrake(clock)
    for _ in range(20):
        brake.wrong("anna")
    clock.now += FORGOTTEN_AFTER_S + PAUSE_CAP_S
    brake.wrong("anna")
    assert brake.wait_s("anna") == 0


def test_memory_is_bounded(clock: ManualClock) -> None:
    brake = GuessBrake(clock)
    for number in range(MOST_NAMES + 10):
        brake.wrong(str(number))
    assert len(brake._records) == MOST_NAMES
