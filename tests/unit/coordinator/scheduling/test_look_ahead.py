"""How many frames a PC holds ready."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.scheduling.look_ahead import HELD_AT_MOST_S, SHORT_FRAME_S, look_ahead_of, new_pace
from sheepfold.contract.presence import SlotState, Stage
from tests.support.coordinator.fakes import node


def busy_slot(stage: Stage = Stage.RENDERING, **changes: Any) -> SlotState:
    return SlotState(lease_id="a", attempt=1, job_name="j", frame="1", stage=stage, **changes)


@pytest.mark.parametrize(
    ("pace_s", "slots", "usual", "held"),
    [
        (None, 1, 1, 1),
        (None, 4, 1, 4),
        (10.0, 2, 1, 2),
        (10.0, 2, 3, 6),
        (HELD_AT_MOST_S, 2, 1, 2),
        (HELD_AT_MOST_S + 1, 2, 1, 0),
        (SHORT_FRAME_S / 2, 2, 1, 4),
        (SHORT_FRAME_S / 2, 2, 0, 0),
        (10.0, 2, 0, 0),
    ],
)
def test_it_grows_with_short_frames_and_shrinks_with_slow_ones(
    pace_s: float | None, slots: int, usual: int, held: int
) -> None:
    assert look_ahead_of(node(slots=slots), pace_s, usual) == held


@pytest.mark.parametrize(
    ("slots", "held"),
    [
        ((busy_slot(remaining_s=59.0),), 1),
        ((busy_slot(remaining_s=61.0),), 0),
        ((busy_slot(),), 0),
        ((busy_slot(Stage.FETCHING, remaining_s=1.0),), 0),
        ((busy_slot(remaining_s=5.0), busy_slot(remaining_s=300.0), busy_slot(remaining_s=20.0)), 2),
    ],
)
def test_a_slow_frame_makes_room_for_the_next_when_it_is_nearly_done(slots: tuple[SlotState, ...], held: int) -> None:
    assert look_ahead_of(node(slots=3, busy=slots), 600.0, 1) == held


def test_the_pace_follows_a_new_job_within_a_few_frames() -> None:
    pace = new_pace(None, 300.0)
    assert pace == 300.0
    for _ in range(20):
        pace = new_pace(pace, 1.0)
    assert pace < SHORT_FRAME_S
