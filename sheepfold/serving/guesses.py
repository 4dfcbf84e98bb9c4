"""Wrong guesses of a password slow the next ones down."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: Wrong guesses before the first pause: a person mistypes.
FREE_GUESSES = 5
#: Pause after the next wrong one, doubled by each, and its upper bound (seconds).
FIRST_PAUSE_S, PAUSE_CAP_S = 1.0, 60.0
#: Nothing is held against a name that was quiet for this long (seconds).
FORGOTTEN_AFTER_S = 900.0
#: Names that are remembered; the oldest is forgotten first.
MOST_NAMES = 10_000


@dataclass
class _Record:
    wrong: int = 0
    #: Clock's seconds: of the last wrong guess, and until when none is looked at.
    last: float = 0.0
    until: float = 0.0


class GuessBrake:
    """By whatever is guessed at or guesses: a login, an address. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def wait_s(self, name: str) -> float:
        """Seconds until a guess is looked at again; 0: now."""
        with self._lock:
            record = self._records.get(name)
            return max(0.0, record.until - self._clock()) if record else 0.0

    def wrong(self, name: str) -> None:
        """A guess was looked at and is wrong."""
        now = self._clock()
        with self._lock:
            record = self._records.setdefault(name, _Record())
            if now - record.last > FORGOTTEN_AFTER_S:
                record.wrong = 0
            record.wrong, record.last = record.wrong + 1, now
            if record.wrong > FREE_GUESSES:
                # Bounded before it is a power: a long attack would make it endless.
                steps = min(record.wrong - FREE_GUESSES - 1, 16)
                record.until = now + min(PAUSE_CAP_S, FIRST_PAUSE_S * 2**steps)
            self._records.move_to_end(name)
            while len(self._records) > MOST_NAMES:
                self._records.popitem(last=False)

    def right(self, name: str) -> None:
        """It was known: nothing is held against the name any more."""
        with self._lock:
            self._records.pop(name, None)
