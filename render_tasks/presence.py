"""The node's record in Redis: that it is here, what it has, and what it is doing.

Written every :data:`~sheepfold.contract.presence.PRESENCE_EVERY_S` seconds and at once when something changes, by a
thread of its own and over a connection of its own, so that neither Celery nor a busy slot can make a living node look
dead. The time in the record is Redis', not this PC's: a PC whose clock is wrong is as present as any other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import redis

from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.presence import (
    NODE_SILENT_AFTER_S,
    PRESENCE_EVERY_S,
    PRESENCE_LEFT,
    Presence,
    presence_key,
)

log = logging.getLogger(__name__)

#: A burst of changes is one record.
AT_MOST_EVERY_S = 0.3
#: Redis may be restarting; after this long the coordinator is asked whether it is somewhere else now.
SILENCE_S = 30


class PresenceWriter:
    """The thread that keeps one node's record in Redis fresh."""

    def __init__(
        self,
        redis_url: str,
        node_id: str,
        record: Callable[[], Presence],
        on_silence: Callable[[], None],
        *,
        on_rival: Callable[[], None] = lambda: None,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._on_rival = on_rival
        self._redis = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            redis_url, socket_timeout=4, socket_connect_timeout=4
        )
        self._node_id, self._record, self._on_silence, self._silence_s = node_id, record, on_silence, silence_s
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._written_at = time.monotonic()
        #: When Redis last took a record (monotonic seconds); ``None`` before the first and after an outage.
        self._taken_at: float | None = None
        self._is_unknown = False
        self._thread = threading.Thread(target=self._loop, name="presence", daemon=True)

    def start(self) -> None:
        """Writes the first record and goes on in the background."""
        self._thread.start()

    def wake(self) -> None:
        """Writes a record within :data:`AT_MOST_EVERY_S`; never waits."""
        self._changed.set()

    def stop(self) -> None:
        """Ends the thread and signs off: the record goes, this node has left on purpose."""
        self._stopping.set()
        self._changed.set()
        self._thread.join(5)
        try:
            self._put(PRESENCE_LEFT)
        except (redis.RedisError, OSError):
            log.info("Redis is away: the coordinator will notice by itself that this node has left")

    def write_once(self) -> bool:
        """One record; ``False`` when Redis did not take it."""
        record = self._record()
        try:
            before = self._put(to_json(record))
        except redis.AuthenticationError:
            self._on_unknown_user()
            return False
        except (redis.RedisError, OSError) as error:
            log.debug("no presence record: %s", type(error).__name__)
            return False
        self._follow_data_loss(before)
        if _is_from_elsewhere(before, record):
            log.warning("another worker runs under this one's identity: asking the coordinator for a new one")
            self._on_rival()
        return True

    def _put(self, record: str) -> object:
        """Gives the record that was there before: it is our own, unless another process runs under our identity."""
        return self._redis.set(presence_key(self._node_id), record, ex=NODE_SILENT_AFTER_S, get=True)

    def _on_unknown_user(self) -> None:
        """Redis was started anew without our user, or the farm ended it: the coordinator knows which."""
        if not self._is_unknown:
            log.warning("Redis does not know this node any more: asking the coordinator")
        self._is_unknown = True
        self._on_silence()

    def _follow_data_loss(self, before: object) -> None:
        """Where Redis lost a record that cannot have expired, it lost what the coordinator keeps there as well."""
        now, taken_at, self._is_unknown = time.monotonic(), self._taken_at, False
        self._taken_at = now
        if before is None and taken_at is not None and now - taken_at < PRESENCE_EVERY_S * 2:
            log.warning("Redis lost this node's record: joining again")
            self._on_silence()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            if self.write_once():
                self._written_at = time.monotonic()
            elif time.monotonic() - self._written_at > self._silence_s:
                log.warning("Redis has not answered for %d s: asking the coordinator where it is", self._silence_s)
                self._written_at = time.monotonic()
                self._on_silence()
            self._stopping.wait(AT_MOST_EVERY_S)
            self._changed.wait(PRESENCE_EVERY_S - AT_MOST_EVERY_S)


def _is_from_elsewhere(before: object, own: Presence) -> bool:
    """Whether the record was written by a worker of another installation."""
    try:
        other = from_json(Presence, before).installation if isinstance(before, bytes) else ""
    except MalformedContract:
        return False
    return bool(other and own.installation) and other != own.installation
