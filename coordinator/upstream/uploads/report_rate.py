"""How many failures a server is told: a few at once, then one every few seconds. Pure but for the clock it is given.

A server counts errors against the account, and a farm that fails a frame a second has told it enough. What is not told
now waits on disk. Frames that are given back unrendered are no errors, and are never held back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: A bad evening of one PC goes through at once.
BURST = 20
#: 1,200 an hour.
EVERY_S = 3.0


class ReportRate:
    """A token bucket that spreads error reports over time. Thread-safe."""

    def __init__(
        self, *, burst: int = BURST, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``burst`` at most at once, and one more every ``every_s`` seconds."""
        self._burst, self._every_s, self._clock = burst, every_s, clock
        self._lock = threading.Lock()
        self._tokens, self._counted_at = float(burst), clock()

    def take(self) -> bool:
        """Whether one more may be told now; it counts as told."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._counted_at) / self._every_s)
            self._counted_at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
