"""The short version of ``make chaos``: the same engine with a fixed seed, fewer frames and two minutes at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import Plan, run_chaos, schedule

pytestmark = [pytest.mark.blender, pytest.mark.redis, pytest.mark.timeout(240)]

PLAN = Plan(seed=32, frames=60, blender_frames=4, pause_s=(3.0, 6.0), limit_s=120)


@pytest.mark.usefixtures("blender")
def test_no_frame_is_lost_and_none_accepted_twice_while_everybody_is_killed(tmp_path: Path) -> None:
    report = run_chaos(PLAN, tmp_path)
    print(report.table())
    assert not report.broken(), report.table()
    assert len(report.kills) >= 3, "workers, the coordinator and Redis were killed"
    assert report.faults, "the server failed too"
    assert report.others["accepted"] == PLAN.frames + PLAN.blender_frames


def test_the_same_seed_kills_the_same_processes_at_the_same_times() -> None:
    first, again, other = (schedule(Plan(seed=seed)) for seed in (1, 1, 2))
    kills = [next(first) for _ in range(50)]
    assert kills == [next(again) for _ in range(50)]
    assert kills != [next(other) for _ in range(50)]
    assert {kill.kind for kill in kills} == {"worker", "coordinator", "redis"}
