"""Opens what the coordinator signed, once: nothing forged, misdirected, old or seen before gets further than this.

**Replays.** An order names an attempt, and an attempt is begun once: the node remembers each that it opened for as long
as the order would be good. Celery may hand the same message over again before it was opened (its connection was lost);
that is no replay. A worker that was started anew remembers nothing: an order may open once more then, and the
coordinator's start-fence turns it away. The memory is bounded: where more than :data:`MOST_REMEMBERED` came in that
time, the oldest are forgotten, and whatever was sent before them is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from typing import Any, Protocol, TypeVar

from render_tasks.broker.refusals import Refusals, Refused
from sheepfold.contract.errors import AgeUnknown, ContractError, ExpiredMessage, ReplayedMessage
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.signing import (
    CANCEL_GOOD_FOR_S,
    ORDER_GOOD_FOR_S,
    Cancel,
    CancelEnvelope,
    FarmKey,
    OrderEnvelope,
    SignedMessage,
    open_cancel,
    open_order,
)

T = TypeVar("T")

#: About ten megabytes; a node that takes 50 orders a second gets as many within fifteen minutes.
MOST_REMEMBERED = 50_000


class Clock(Protocol):
    """Redis' time (:class:`sheepfold.backoff.SharedClock`)."""

    def now(self) -> float | None: ...
    def ask_again(self) -> float | None: ...


class MessageOpener:
    """Orders and cancels for this node. Thread-safe; what it refuses is counted and told in the log."""

    def __init__(self, farm: FarmKey, node_id: str, clock: Clock, refusals: Refusals) -> None:
        self._farm, self._node_id, self._clock, self._refusals = farm, node_id, clock, refusals
        self._orders, self._cancels = ReplayMemory(ORDER_GOOD_FOR_S), ReplayMemory(CANCEL_GOOD_FOR_S)

    def order(self, signed: SignedMessage) -> RenderOrder:
        """The order inside, the first time. Raises what :func:`open_order` does, ReplayedMessage and AgeUnknown."""

        def open_at(now: float) -> RenderOrder:
            envelope: OrderEnvelope = open_order(signed, self._farm, self._node_id, now)
            order = envelope.order
            self._orders.add((order.lease_id, order.attempt), envelope.stamp.sent_at, now)
            return order

        return self._opened(open_at, Refused.ORDER)

    def cancel(self, signed: SignedMessage) -> Cancel:
        """The cancel inside, the first time; raises as :meth:`order` does."""

        def open_at(now: float) -> Cancel:
            envelope: CancelEnvelope = open_cancel(signed, self._farm, self._node_id, now)
            # The coordinator sends another one, with another stamp, while the attempt goes on.
            self._cancels.add(signed.text, envelope.stamp.sent_at, now)
            return envelope.cancel

        return self._opened(open_at, Refused.CANCEL)

    def _opened(self, open_at: Callable[[float], T], what: Refused) -> T:
        try:
            try:
                return open_at(self._time(self._clock.now()))
            except ExpiredMessage:
                # Our own clock may have stood still, or Redis' was set.
                return open_at(self._time(self._clock.ask_again()))
        except ContractError as error:
            self._refusals.add(what, error)
            raise

    def _time(self, now: float | None) -> float:
        if now is None:
            raise AgeUnknown("Redis does not say what time it is")
        return now


class ReplayMemory:
    """What was opened within the time for which messages are good, so that none is followed twice. Thread-safe."""

    def __init__(self, good_for_s: float, *, most: int = MOST_REMEMBERED) -> None:
        self._good_for_s, self._most = good_for_s, most
        self._lock = threading.Lock()
        self._keys: set[Hashable] = set()
        #: When each was sent, the earliest first.
        self._sent: list[tuple[float, Any]] = []
        #: Whatever was sent up to then may have been here, and is not remembered.
        self._forgotten_until = float("-inf")

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Hashable, sent_at: float, now: float) -> None:
        """Remembers it. Raises ReplayedMessage where it was here before, ExpiredMessage where nobody knows any more."""
        with self._lock:
            while self._sent and now - self._sent[0][0] > self._good_for_s:
                self._keys.discard(heappop(self._sent)[1])
            if key in self._keys:
                raise ReplayedMessage("it was followed here before")
            if sent_at <= self._forgotten_until <= now:
                raise ExpiredMessage(now - sent_at, now - self._forgotten_until)
            heappush(self._sent, (sent_at, key))
            self._keys.add(key)
            if len(self._sent) > self._most:
                self._forgotten_until, forgotten = heappop(self._sent)
                self._keys.discard(forgotten)
