"""Waiting: waits that grow, and a clock that measures them.

The waits differ from machine to machine, so that a hundred of them don't come back in the same second.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

#: Waits are multiplied with a random number from here.
JITTER = (0.75, 1.25)


class Backoff:
    """Growing waits with jitter: ``first_s``, twice that, and so on up to ``cap_s``; jitter is applied last."""

    def __init__(self, first_s: float, cap_s: float, rng: random.Random | None = None, *, growth: float = 2.0) -> None:
        self._first_s, self._cap_s, self._growth = first_s, max(first_s, cap_s), growth
        self._rng = rng or random.Random()
        self._wait_s = first_s

    def next(self) -> float:
        """Seconds to wait now; the next wait is longer."""
        wait_s, self._wait_s = self._wait_s, min(self._wait_s * self._growth, self._cap_s)
        return wait_s * self._rng.uniform(*JITTER)

    def reset(self) -> None:
        """What was waited for came: the next wait is the first again."""
        self._wait_s = self._first_s


def steady_clock(
    wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Seconds since 1970, right when the clock is made; from then on it only counts and never jumps.

    Whoever sets the machine's clock meanwhile, a person or the network's time, changes no wait that is under way: a
    lease of twenty minutes takes twenty minutes.
    """
    offset = wall() - steady()
    return lambda: offset + steady()
