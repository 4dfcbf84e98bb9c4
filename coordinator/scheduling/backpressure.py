"""How many nodes wait for our answer: while they are many, nothing more is asked of the server.

A coordinator that is slower than its farm would else fill up with questions of nodes. Frames that were not asked for
cost nothing; questions under way cost memory, and make every other answer late.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

#: Questions under way that a coordinator answers within two seconds or so.
MANY = 256


class InFlightGauge:
    """Counts requests of nodes that are not answered yet. Thread-safe."""

    def __init__(self, many: int = MANY) -> None:
        self._many = many
        self._lock = threading.Lock()
        self._waiting = 0

    @contextmanager
    def track(self) -> Generator[None]:
        """A node waits for as long as the block lasts."""
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    @property
    def is_high(self) -> bool:
        """Whether more work would only wait."""
        return self._waiting > self._many
