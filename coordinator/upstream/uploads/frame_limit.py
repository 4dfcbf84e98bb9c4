"""How many frames a server lets one session hold at a time, learned from its "no job".

Some services give a session so many unvalidated frames (3 was observed) and answer 200 to every question above that.
Asked again after each settled frame, such a server would hear two questions a frame, one of them for nothing. So a 200
that came while the session held N frames teaches N, and nothing is asked above it: a settled frame leads to one
question.

A 200 may as well mean that there is no work just now. So a number is never lower than what the session has held since
it was last forgotten, and it is forgotten when the wait for jobs that came with it is over: then one question more
finds out.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Generator
from typing import Protocol


class LimitedSession(Protocol):
    """What a limit is learned from."""

    @property
    def no_job_answers(self) -> int:
        """Counts the questions that were answered "no job"."""
        ...

    @property
    def no_job_until(self) -> float:
        """When the wait after the last of them ends, or would have ended (the clock's seconds)."""
        ...


class FrameLimit:
    """The limit of one session. Thread-safe: questions go side by side, and the number is learned after the last.

    ``held`` counts the session's frames that the server takes for unvalidated.
    """

    def __init__(
        self, session: LimitedSession, held: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session, self._held, self._clock = session, held, clock
        self._lock = threading.Lock()
        self._asking = 0
        self._heard = session.no_job_answers
        self._was_full = False
        #: The most frames that were held since the limit was last forgotten.
        self._most = 0
        self._limit = math.inf
        self._until = -math.inf

    def free_places(self) -> float:
        """How many more frames may be asked for; infinite while no limit is known."""
        with self._lock:
            return self._free_places()

    @contextlib.contextmanager
    def question(self) -> Generator[bool]:
        """Surrounds one question and what becomes of its answer; false: it must not be asked."""
        with self._lock:
            may_ask = self._free_places() > 0
            self._asking += may_ask
        try:
            yield may_ask
        finally:
            with self._lock:
                self._asking -= may_ask
                self._learn()

    def _free_places(self) -> float:
        if self._limit < math.inf and self._clock() >= self._until:
            self._limit, self._most = math.inf, 0
        return self._limit - self._held() - self._asking

    def _learn(self) -> None:
        heard = self._session.no_job_answers
        self._was_full |= heard != self._heard
        self._heard, self._most = heard, max(self._most, self._held())
        if self._asking or not self._was_full:
            # A frame that is still on its way counts too.
            return
        self._was_full = False
        if self._most and self._limit == math.inf:
            self._limit, self._until = self._most, self._session.no_job_until
