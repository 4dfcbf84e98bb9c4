"""When a project will be done."""

from __future__ import annotations

import pytest

from lab.server.api.eta import seconds_left


def test_two_slots_that_need_ten_seconds_a_frame_take_five_for_each() -> None:
    accepted = [at for at in (10, 10, 20, 20, 30, 30) for _ in (0,)]
    assert seconds_left(18, accepted, began_at=0, now=30) == pytest.approx(90)


def test_nothing_is_told_before_two_frames_have_come_and_nothing_is_left_when_all_have() -> None:
    assert seconds_left(5, [10], began_at=0, now=11) is None
    assert seconds_left(0, [10], began_at=0, now=11) == 0


def test_only_the_last_frames_count() -> None:
    slow_then_fast = [100.0 * number for number in range(10)] + [1000.0 + number for number in range(40)]
    assert seconds_left(100, slow_then_fast, began_at=0, now=1039) == pytest.approx(100, rel=0.05)


def test_frames_that_stop_coming_make_it_later() -> None:
    assert seconds_left(2, [10, 20], began_at=0, now=200) == pytest.approx(200)
