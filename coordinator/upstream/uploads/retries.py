"""What was tried at the server and did not end: when each item is tried again, and how often it was.

An item is a frame or an error report, named by its lease. Two questions are kept apart:

* *Is it the server or the item?* An item that fails while others of its session get through is the trouble itself; its
  ``alone`` counts how often that was seen. While nothing gets through it may be the server's, for hours.
* *Did the server say anything?* An answer that settles nothing makes the item wait, longer each time. Silence makes
  nobody but the session wait, unless others got through meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sheepfold.backoff import Backoff


@dataclass
class _Retry:
    backoff: Backoff
    #: The clock's seconds before which it is not tried again.
    not_before: float = -1.0
    #: Items that had been settled when it failed last.
    settled_then: int = 0
    alone: int = 0
    answers: int = 0
    odd: int = 0


@dataclass(frozen=True, kw_only=True)
class Failures:
    """What is known of an item that failed again."""

    #: Times it failed although others had got through since the time before.
    alone: int
    #: Answers it got that settled nothing.
    answers: int
    #: Seconds it waits by itself; 0: it does not.
    wait_s: float


class RetryTable:
    """The items of one session that were tried at least once. Thread-safe."""

    def __init__(self, make_backoff: Callable[[], Backoff], clock: Callable[[], float] = time.monotonic) -> None:
        self._make_backoff, self._clock = make_backoff, clock
        self._retries: dict[str, _Retry] = {}
        self._settled = 0
        self._lock = threading.Lock()

    def is_fresh(self, item: str) -> bool:
        """Whether it has not failed yet."""
        return item not in self._retries

    def is_due(self, item: str) -> bool:
        """Whether it may be tried now."""
        retry = self._retries.get(item)
        return retry is None or self._clock() >= retry.not_before

    def failed(self, item: str, *, answered: bool) -> Failures:
        """It was tried and is not settled."""
        with self._lock:
            is_first = item not in self._retries
            retry = self._retries.setdefault(item, _Retry(self._make_backoff()))
            retry.alone += not is_first and retry.settled_then != self._settled
            retry.answers += answered
            retry.settled_then = self._settled
            wait_s = retry.backoff.next() if answered or retry.alone else 0.0
            retry.not_before = self._clock() + wait_s
            return Failures(alone=retry.alone, answers=retry.answers, wait_s=wait_s)

    def odd_answer(self, item: str) -> int:
        """It was answered with something that nobody knows; how often that has been."""
        with self._lock:
            retry = self._retries.setdefault(item, _Retry(self._make_backoff(), settled_then=self._settled))
            retry.odd += 1
            return retry.odd

    def settled(self, item: str) -> None:
        """The server has said what becomes of it."""
        with self._lock:
            self._retries.pop(item, None)
            self._settled += 1

    def forget(self, item: str) -> None:
        """It is no longer wanted at the server."""
        with self._lock:
            self._retries.pop(item, None)

    def keep_only(self, items: Collection[str]) -> None:
        """Forgets whatever is not among these."""
        with self._lock:
            for item in self._retries.keys() - set(items):
                del self._retries[item]
