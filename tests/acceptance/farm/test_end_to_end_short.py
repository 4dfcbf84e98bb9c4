"""The engine of ``benchmarks/end_to_end.py`` on a few frames: no slot is idle, and the figures add up.

The goal for the ratio is for a machine that does nothing else; here a wide bound catches what is plainly broken.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmarks.end_to_end import GAP_GOAL_MS, Case, measure
from benchmarks.frame_timeline import FrameTimeline

pytestmark = [pytest.mark.blender, pytest.mark.redis, pytest.mark.timeout(300)]


def test_a_slot_goes_from_frame_to_frame_without_a_pause(
    blender: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a farm that knows nothing of the scene, when 8 frames go through it, the slot is busy all the time."""
    monkeypatch.setenv("SHEEPFOLD_BLENDER", blender)
    found = measure(Case(frames=8, slots=1), tmp_path, pairs=1)
    (timeline,) = found.timelines
    assert len(timeline.gaps_ms()) == 7
    assert statistics.median(timeline.gaps_ms()) < GAP_GOAL_MS
    assert timeline.rendering_share > 0.9
    assert found.ratio < 2
    assert_steps_add_up(timeline)
    assert f"{found.ratio:.2f}" in found.table()


def assert_steps_add_up(timeline: FrameTimeline) -> None:
    steps = timeline.steps_s()
    assert sum(steps.values()) == pytest.approx(timeline.took_s)
    assert abs(steps["slots out of step"]) < 0.1 * timeline.took_s
