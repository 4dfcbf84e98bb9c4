from __future__ import annotations

import pytest

from sheepfold.steady_clock import steady_clock

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
