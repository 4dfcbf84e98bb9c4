"""Growing waits with jitter, and the clock that measures them."""

from __future__ import annotations

import random

import pytest

from sheepfold.backoff import Backoff, steady_clock
from tests.support.coordinator.session_harness import NoJitter


def test_waits_double_up_to_their_cap() -> None:
    backoff = Backoff(5, 60, NoJitter())
    assert [backoff.next() for _ in range(6)] == [5, 10, 20, 40, 60, 60]


def test_a_reset_begins_again() -> None:
    backoff = Backoff(5, 60, NoJitter())
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == 5


def test_waits_are_spread_by_a_quarter_either_way() -> None:
    backoff = Backoff(100, 100, random.Random(1))
    waits = [backoff.next() for _ in range(1000)]
    assert 75 <= min(waits) < 80
    assert 120 < max(waits) <= 125
    assert len(set(waits)) > 900


def test_a_first_wait_above_the_cap_is_kept() -> None:
    backoff = Backoff(900, 600, NoJitter())
    assert [backoff.next(), backoff.next()] == [900, 900]


HOUR_S = 3600.0


@pytest.mark.parametrize("set_by", [HOUR_S, -HOUR_S])
def test_the_clock_only_counts_whoever_sets_the_machines(set_by: float) -> None:
    wall, steady = [1_700_000_000.0], [50.0]
    clock = steady_clock(lambda: wall[0], lambda: steady[0])
    assert clock() == wall[0], "right at the start"
    wall[0] += set_by
    assert clock() == 1_700_000_000.0
    steady[0] += 7
    assert clock() == 1_700_000_007.0
