"""Growing waits with jitter."""

from __future__ import annotations

import random

from sheepfold.backoff import Backoff
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
