"""Orders for the same archives queue for a slot in the order they came.

The coordinator's answer to one may overtake the answer to another. The first fetches the archives and the others wait
for it, so all of them are ready in the same moment; which thread runs first then is chance. An order that is ready
therefore lets those that came before it, and need the same, queue first; not for long, because they may have failed
meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass, field

#: A thread that is ready to run has run by then.
WAIT_FOR_EARLIER_S = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Coming:
    needs: Hashable
    came_at: float
    has_queued: threading.Event = field(default_factory=threading.Event)


class ArrivalOrder:
    """Orders on their way to the queue; threads share it."""

    def __init__(self, wait_s: float = WAIT_FOR_EARLIER_S) -> None:
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._coming: list[_Coming] = []

    @contextmanager
    def preparing(self, needs: Hashable, came_at: float) -> Generator[None]:
        """Inside the block an order passes its fence and gets its archives; it may queue for a slot when it is left."""
        mine = _Coming(needs=needs, came_at=came_at)
        with self._lock:
            self._coming.append(mine)
        try:
            yield
            self._let_pass(mine)
        finally:
            with self._lock:
                self._coming.remove(mine)
            mine.has_queued.set()

    def _let_pass(self, mine: _Coming) -> None:
        with self._lock:
            earlier = [order for order in self._coming if order.needs == mine.needs and order.came_at < mine.came_at]
        until = time.monotonic() + self._wait_s
        for order in earlier:
            order.has_queued.wait(max(0.0, until - time.monotonic()))
