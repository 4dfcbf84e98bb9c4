"""Backpressure: while many nodes wait for an answer of ours, the server is asked for no more frames.

A coordinator that is slower than its farm would otherwise fill up with requests of nodes. Frames that were not asked
for cost nothing; requests under way cost memory, and make every other answer late.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

#: Requests under way that a coordinator answers within two seconds or so.
MANY = 256


class InFlightGauge:
    """Counts requests of nodes that are not answered yet. Thread-safe."""

    def __init__(self, many: int = MANY) -> None:
        self._many = many
        self._lock = threading.Lock()
        self._waiting = 0

    @contextmanager
    def track(self) -> Generator[None]:
        """Counts one request as under way for as long as the block lasts."""
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    @property
    def is_high(self) -> bool:
        """Whether so many requests are under way that more frames would only wait."""
        return self._waiting > self._many
