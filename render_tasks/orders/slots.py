"""Who renders next: the slots of a node, and the orders that wait for one.

Orders are served in the order they came to the node, whichever had its archives first, with one exception. A Blender
stays open between frames, and an order for another scene closes it; two jobs that take turns on one slot would start a
Blender for every frame. So an order whose scene is *warm* (a Blender waits for it) may go before orders that came
earlier, but nobody is passed by more than :data:`PASSED_AT_MOST` later ones. Two jobs that alternate are thus rendered
in runs of a few frames each.

:func:`take_next` decides and is pure. :class:`Slots` wakes the order that was chosen the moment a slot is free, so that
no time goes by between two frames. A slot remembers when its last picture was written: how long it was idle until the
next frame began is what an operator is told (:mod:`render_tasks.orders.slot_gaps`).
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Collection, Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass, field

from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped

#: An order is passed by so many that came after it, then it is its turn: a start of Blender is paid by three frames.
PASSED_AT_MOST = 3


@dataclass(kw_only=True)
class Slot:
    """Where one frame is rendered at a time."""

    #: From 1, for people.
    number: int
    #: Monotonic seconds at which its last picture was written; ``None``: it has rendered none yet.
    picture_at: float | None = None


@dataclass(kw_only=True, eq=False)
class Waiting:
    """An order that waits for a slot."""

    #: Monotonic seconds at which it came to the node.
    came_at: float
    #: What a Blender would have to be open for.
    key: Hashable
    #: How many that came later went before it.
    passed: int = 0
    slot: Slot | None = None
    decided: threading.Event = field(default_factory=threading.Event)


def take_next(waiting: list[Waiting], warm: Collection[Hashable]) -> Waiting:
    """Takes out whose turn it is; ``waiting`` has the oldest first and is not empty."""
    overdue = (order for order in waiting if order.passed >= PASSED_AT_MOST)
    wanted = (order for order in waiting if order.key in warm)
    chosen = next(overdue, None) or next(wanted, waiting[0])
    for earlier in waiting[: waiting.index(chosen)]:
        earlier.passed += 1
    waiting.remove(chosen)
    return chosen


class Slots:
    """The slots of one node; threads share them."""

    def __init__(self, count: int, warm: Callable[[], Collection[Hashable]] = lambda: ()) -> None:
        self._warm = warm
        self._lock = threading.Lock()
        #: The one used last stands last and is taken first.
        self._free = [Slot(number=number) for number in range(count, 0, -1)]
        self._waiting: list[Waiting] = []

    @contextmanager
    def acquire(self, key: Hashable, cancel_token: CancelToken, *, came_at: float) -> Generator[Slot]:
        """A slot, for as long as the block lasts. Raises AttemptDropped when ``cancel_token`` stops the wait."""
        slot = self._take(Waiting(key=key, came_at=came_at), cancel_token)
        try:
            yield slot
        finally:
            with self._lock:
                self._free.append(slot)
                self._serve()

    def waiting_keys(self) -> list[Hashable]:
        """Of the orders that wait, the oldest first."""
        with self._lock:
            return [order.key for order in self._waiting]

    def _take(self, order: Waiting, cancel_token: CancelToken) -> Slot:
        cancel_token.add_callback(order.decided.set)
        with self._lock:
            bisect.insort(self._waiting, order, key=lambda other: other.came_at)
            self._serve()
        order.decided.wait()
        with self._lock:
            if order.slot and not cancel_token.is_cancelled():
                return order.slot
            # It was stopped, maybe in the moment in which it got its slot: that goes to the next.
            if order.slot:
                self._free.append(order.slot)
            else:
                self._waiting.remove(order)
            self._serve()
        raise AttemptDropped(cancel_token.reason)

    def _serve(self) -> None:
        while self._free and self._waiting:
            chosen = take_next(self._waiting, self._warm())
            chosen.slot = self._free.pop()
            chosen.decided.set()
