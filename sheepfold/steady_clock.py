"""Seconds since 1970 that never jump."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady_clock(
    wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """A clock that is right when it is made and from then on only counts.

    Whoever sets the machine's clock meanwhile, a person or the network's time, changes no wait that is under way: a
    lease of twenty minutes takes twenty minutes.
    """
    offset = wall() - steady()
    return lambda: offset + steady()
