"""Counts what the worker refuses, and tells it in the log: each kind and reason at once, then once a minute."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from sheepfold.contract.errors import ContractError

log = logging.getLogger(__name__)

#: A flood of messages is one line a minute for each kind and type of error.
TOLD_EVERY_S = 60.0


class Refused(StrEnum):
    """Kinds of messages that a worker drops, as its log names them."""

    #: A message in the node's queue that no coordinator wrote.
    TASK = "a message in the queue"
    #: A message on the control channel that is no cancel and no ping.
    COMMAND = "a control message"
    #: An order that came in the right form, and that nobody of this farm sent to this node now.
    ORDER = "an order"
    #: The same of a cancel.
    CANCEL = "a cancel"


class Refusals:
    """How much was refused since the worker's start. Thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self.counts: Counter[Refused] = Counter()
        #: The clock's seconds.
        self._told_at: dict[tuple[Refused, type[ContractError]], float] = {}

    def add(self, what: Refused, why: ContractError) -> None:
        """Counts a message, and logs it unless one like it was logged a moment ago."""
        kind = (what, type(why))
        with self._lock:
            self.counts[what] += 1
            count, now = self.counts[what], self._clock()
            if now - self._told_at.get(kind, -math.inf) < TOLD_EVERY_S:
                return
            self._told_at[kind] = now
        log.warning("refused %s: %.300s (%d since the start)", what.value, why, count)
