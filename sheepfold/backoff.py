"""Waiting: waits that grow, and clocks that measure them: one that never jumps, one that several machines agree on.

The waits differ from machine to machine, so that a hundred of them don't come back in the same second.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Waits are multiplied with a random number from here.
JITTER = (0.75, 1.25)
#: Seconds between two looks at another machine's clock: two crystals differ by less than a millisecond in that time.
ASK_EVERY_S = 10.0


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


@dataclass(frozen=True, kw_only=True)
class _Answer:
    #: What the other machine said, and our own steady clock then; both seconds.
    told: float
    at: float


class SharedClock:
    """Another machine's Unix seconds: it is asked now and then, and counted on meanwhile. Thread-safe."""

    def __init__(
        self,
        ask: Callable[[], float | None],
        *,
        every_s: float = ASK_EVERY_S,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """``ask`` gives the other machine's time, ``None`` where it does not answer; it may wait for that."""
        self._ask, self._every_s, self._steady = ask, every_s, steady
        self._answer: _Answer | None = None

    def now(self) -> float | None:
        """Its time; ``None`` only where it has never answered. A silent one is counted on from its last answer."""
        answer = self._answer
        if answer is None or self._steady() - answer.at >= self._every_s:
            return self.ask_again()
        return answer.told + self._steady() - answer.at

    def ask_again(self) -> float | None:
        """As :meth:`now`, asked at once: its clock may have been set, and ours does not count while a PC sleeps."""
        told = self._ask()
        if told is not None:
            self._answer = _Answer(told=told, at=self._steady())
            return told
        answer = self._answer
        return None if answer is None else answer.told + self._steady() - answer.at
