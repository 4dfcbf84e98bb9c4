"""Asks the coordinator again for what it told a worker that joined."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from render_tasks.errors import CoordinatorError, FarmChanged
from sheepfold.contract.api_messages import JoinAnswer
from sheepfold.contract.errors import ContractError
from sheepfold.contract.signing import FarmKey

log = logging.getLogger(__name__)

#: Seconds between two joins that ask where Redis is now.
REJOIN_EVERY_S = 20.0


class Rejoining:
    """A worker whose Redis is silent, whose orders are forged, or whose identity is another's, asks. Thread-safe."""

    def __init__(
        self,
        joined: JoinAnswer,
        ask: Callable[[], JoinAnswer],
        accept: Callable[[JoinAnswer], FarmKey],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``ask`` joins once more; ``accept`` raises :class:`FarmChanged` for another farm's answer."""
        self._joined, self._ask, self._accept, self._clock = joined, ask, accept, clock
        self._lock = threading.Lock()
        self._asked_at = clock() - REJOIN_EVERY_S
        #: What keeps this PC from following its coordinator's orders, for a person; empty: nothing does.
        self.trouble = ""

    def has_moved(self) -> bool:
        """Whether the coordinator names another Redis, or another identity of ours; asked every 20 s at most."""
        with self._lock:
            if self._clock() - self._asked_at < REJOIN_EVERY_S:
                return False
            self._asked_at = self._clock()
            try:
                now = self._ask()
                self._accept(now)
            except FarmChanged as changed:
                log.error("%s", changed)
                self.trouble = changed.operator_line
                return False
            except (CoordinatorError, ContractError, OSError) as error:
                log.warning("the coordinator could not be asked where Redis is now: %s", error)
                return False
            self.trouble = ""
            before = self._joined
            return (now.redis_url, now.queue, now.name) != (before.redis_url, before.queue, before.name)
