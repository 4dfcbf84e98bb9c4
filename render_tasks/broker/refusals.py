"""Counts what the worker refuses, and tells it in the log: each kind at once, then once a minute."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

log = logging.getLogger(__name__)

#: A flood of messages is one line a minute for each kind.
TOLD_EVERY_S = 60.0


class Refused(StrEnum):
    """What was refused."""

    #: A message in the node's queue that no coordinator wrote.
    TASK = "message in the queue"
    #: A message on the control channel that is no cancel and no ping.
    COMMAND = "control message"


class Refusals:
    """How much was refused since the worker's start. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self.counts: Counter[Refused] = Counter()
        #: The clock's seconds.
        self._told_at: dict[Refused, float] = {}

    def add(self, what: Refused, why: str) -> None:
        """One more; never waits."""
        with self._lock:
            self.counts[what] += 1
            count, now = self.counts[what], self._clock()
            if now - self._told_at.get(what, -TOLD_EVERY_S) < TOLD_EVERY_S:
                return
            self._told_at[what] = now
        log.warning("refused a %s: %.300s (%d since the start)", what.value, why, count)
