"""Who is on the LAN right now, told by the records that nodes write into Redis, and what each node is called.

Besides the presence keys of :mod:`sheepfold.contract.presence` this file owns::

    sheepfold:names     hash   node id → the name it was given
    sheepfold:named     zset   node id → Redis TIME (seconds) at which it was named, seen (by the hour) or forgotten

A node writes its own record and nothing else, and may write anything into it: whatever is no record, cannot be read or
is too large hides its node, is told once, and is never brought here. Every age is measured with Redis' own clock, so
clocks of PCs may be wrong. Absence proves nothing while records could
not arrive: at our start, after Redis was away or stuck, and when its clock jumped. For
:data:`~sheepfold.contract.presence.NODE_SILENT_AFTER_S` after such a moment no node is called lost, and
:attr:`Sweep.settled` is false.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from sheepfold.contract.codec import from_json
from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.orders import queue_of
from sheepfold.contract.presence import (
    NODE_SILENT_AFTER_S,
    PRESENCE_PREFIX,
    Presence,
    presence_key,
)

from .errors import BrokerUnreachable
from .registry_scripts import LOOK_SCRIPT, NAME_SCRIPT

log = logging.getLogger(__name__)

NAMES = "sheepfold:names"
NAMED = "sheepfold:named"

#: A PC that is off over the weekend finds its name again; one that was reinstalled does not block it for ever.
NAME_KEPT_S = 3 * 24 * 3600
MAX_NAME = 40
#: So often Redis is told that nodes which are here still have their names; at our start as well.
NAMES_REFRESHED_EVERY_S = 3600
#: A record of a node with many slots and a full cache is a tenth of this.
MAX_RECORD_BYTES = 512 * 1024
#: More than any PC renders side by side.
MAX_SLOTS = 1024
#: Redis' clock and ours may drift apart this much between two sweeps before it counts as a jump.
CLOCK_JUMP_S = 5

#: Redis is on this machine or the next one; with one retry an outage is known within 8 s.
CONNECT_TIMEOUT_S = 2
ANSWER_TIMEOUT_S = 4

#: Celery's priority steps, each a list of its own behind the queue's name (see ``sheepfold.contract.celery_app``).
_PRIORITIES = range(1, 10)

_NODE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What changed on the LAN since the sweep before."""

    #: Node id → its latest record.
    present: dict[str, Presence]
    #: Present at the sweep before and silent now.
    lost: tuple[str, ...] = ()
    #: Present now and not at the sweep before: new ones, and lost ones that came back.
    returned: tuple[str, ...] = ()
    #: Whether a node that is not in ``present`` is really gone.
    settled: bool = True


def connect(url: str) -> redis.Redis:
    """A client whose calls end in bounded time; ``url`` holds a password and never shows."""
    return redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_keepalive=True,
        health_check_interval=10,
        retry=Retry(ConstantBackoff(0.1), 1),
    )


class NodeRegistry:
    """The farm's nodes as Redis knows them. Thread-safe; every call may raise :class:`BrokerUnreachable`."""

    def __init__(self, client: redis.Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis: Any = client
        self._clock = clock
        self._name_script = self._redis.register_script(NAME_SCRIPT)
        self._look_script = self._redis.register_script(LOOK_SCRIPT)
        self._lock = threading.Lock()
        self._present: dict[str, Presence] = {}
        #: Node id → its last record, or why there is none, and what it says; unchanged records are not read again.
        self._records: dict[str, tuple[bytes | int, Presence | None]] = {}
        #: Node id → the name it was told, of nodes that joined us or were seen: Redis may lose its own list.
        self._named: dict[str, str] = {}
        self._names_refreshed_at = 0.0
        self._lives_checked_at = -float(NODE_SILENT_AFTER_S)
        #: Our clock and Redis' at the last sweep that worked; ``None`` before the first and after an outage.
        self._clocks: tuple[float, float] | None = None
        self._settled_at = 0.0

    def redis_time(self) -> float | None:
        """Unix seconds by Redis' clock, asked now; ``None`` where it does not answer."""
        try:
            seconds, microseconds = self._redis.time()
        except (redis.RedisError, OSError):
            return None
        return seconds + microseconds / 1e6

    def present(self) -> dict[str, Presence]:
        """Node id → record of every node that is not silent, asked from Redis now."""
        with self._lock, typed_errors():
            return self._look()[1]

    def sweep(self) -> Sweep:
        """Look at everyone and tell the changes since the last sweep."""
        with self._lock:
            try:
                with typed_errors():
                    redis_now, found, left = self._look()
                    self._refresh_names(redis_now, found)
            except BrokerUnreachable:
                self._clocks = None
                raise
            settled = self._is_settled(redis_now)
            before = self._present
            if not settled:
                # A node that cannot have written yet is still present with its last record, unless it signed off.
                found = {node_id: node for node_id, node in before.items() if node_id not in left} | found
            self._present = found
            return Sweep(
                present=dict(found),
                lost=tuple(sorted(before.keys() - found.keys())),
                returned=tuple(sorted(found.keys() - before.keys())),
                settled=settled,
            )

    def waiting_orders(self, node_ids: Collection[str]) -> dict[str, int]:
        """How many orders lie in the queue of each of these nodes."""
        if not node_ids:
            return {}
        with typed_errors():
            pipe = self._redis.pipeline(transaction=False)
            for node_id in node_ids:
                pipe.llen(queue_of(node_id))
            return dict(zip(node_ids, pipe.execute(), strict=True))

    def forget(self, node_id: str) -> None:
        """Drop a lost node's orders and its record; its name is kept for a while."""
        queue = queue_of(node_id)
        with self._lock, typed_errors():
            self._present.pop(node_id, None)
            self._records.pop(node_id, None)
            self._named.pop(node_id, None)
            pipe = self._redis.pipeline()
            pipe.delete(queue, *(f"{queue}:{priority}" for priority in _PRIORITIES))
            pipe.delete(presence_key(node_id))
            pipe.zadd(NAMED, {node_id: self._redis.time()[0]})
            pipe.execute()

    def names(self) -> dict[str, str]:
        """Node id → name, of all nodes that are here or were in the last days."""
        with typed_errors():
            kept = self._redis.hgetall(NAMES)
        with self._lock:
            return {_text(node_id): _text(name) for node_id, name in kept.items()} | self._named

    def unique_name(self, node_id: str, wanted: str) -> str:
        """The name of a node that joins: what it wants, or that with a number. It keeps the name while it lives."""
        with self._lock:
            borne = [text for node in self._present.values() for text in (node.node_id, node.name)]
        with typed_errors():
            name = self._name_script(keys=[NAMES, NAMED], args=[node_id, clean_name(wanted), NAME_KEPT_S, *borne])
        told = _text(name)
        with self._lock:
            self._named[node_id] = told
        return told

    def _look(self) -> tuple[float, dict[str, Presence], set[str]]:
        """Redis' time, the records of nodes that are not silent, and which have signed off."""
        (seconds, microseconds), known, found = self._ask_for_records()
        if known < len(self._named):
            # Redis lost its list, or part of it: nodes that we know are looked for all the same.
            self._put_names(self._named, int(seconds))
            (seconds, microseconds), known, found = self._ask_for_records()
        records = {_text(node_id): record for node_id, record in zip(found[::2], found[1::2], strict=True)}
        left = {node_id for node_id, record in records.items() if record == b""}
        # What is no text is found when lives are checked; in between it looks like silence.
        self._records = {key: value for key, value in self._records.items() if key in records or value[0] == 0}
        read = {node_id: self._read(node_id, record) for node_id, record in records.items() if record != b""}
        return int(seconds) + int(microseconds) / 1e6, {key: node for key, node in read.items() if node}, left

    def _ask_for_records(self) -> Any:
        now = self._clock()
        is_due = self._clocks is None or now - self._lives_checked_at >= NODE_SILENT_AFTER_S
        limits = [MAX_RECORD_BYTES, NODE_SILENT_AFTER_S * 1000, int(is_due)]
        found = self._look_script(keys=[NAMES], args=[PRESENCE_PREFIX, *limits])
        if is_due:
            self._lives_checked_at = now
        return found

    def _refresh_names(self, redis_now: float, found: Mapping[str, Presence]) -> None:
        """Nodes that are here keep their names; told to Redis by the hour."""
        self._named |= {node_id: node.name for node_id, node in found.items() if node_id not in self._named}
        if found and not 0 <= redis_now - self._names_refreshed_at < NAMES_REFRESHED_EVERY_S:
            self._put_names({node_id: node.name for node_id, node in found.items()}, int(redis_now))
            self._names_refreshed_at = redis_now

    def _put_names(self, names: Mapping[str, str], now: int) -> None:
        pipe = self._redis.pipeline()
        pipe.hset(NAMES, mapping=dict(names))
        pipe.zadd(NAMED, dict.fromkeys(names, now))
        pipe.execute()

    def _read(self, node_id: str, record: bytes | int) -> Presence | None:
        """``record`` is what the node wrote; where that is too large its size, and 0 where it is no text."""
        known = self._records.get(node_id)
        if known and known[0] == record:
            return known[1]
        try:
            presence = read_presence(node_id, _readable(record))
        except MalformedContract as error:
            presence = None
            if not known or known[1]:
                log.warning("ignoring node %.64r: its record is unusable: %.200s", node_id, error)
        self._records[node_id] = (record, presence)
        return presence

    def _is_settled(self, redis_now: float) -> bool:
        now = self._clock()
        before, self._clocks = self._clocks, (now, redis_now)
        if before is None or abs((redis_now - before[1]) - (now - before[0])) > CLOCK_JUMP_S:
            self._lives_checked_at = -float(NODE_SILENT_AFTER_S)
            self._settled_at = now + NODE_SILENT_AFTER_S
        return now >= self._settled_at


def read_presence(node_id: str, raw: bytes) -> Presence:
    """A node's record, checked: it comes from the LAN, and its texts reach logs, pages and paths.

    Raises :class:`~sheepfold.contract.errors.MalformedContract`.
    """
    presence = from_json(Presence, raw)
    wrong = {
        "node_id": presence.node_id != node_id or not _NODE_ID.fullmatch(node_id),
        "name": presence.name != clean_name(presence.name),
        "slots": not 0 < presence.slots <= MAX_SLOTS,
        "cpu_cores": presence.hardware.cpu_cores < 1,
        "archives": not all(_MD5.fullmatch(md5) for md5 in (*presence.archives, *presence.shared)),
    }
    if bad := [field for field, is_wrong in wrong.items() if is_wrong]:
        raise MalformedContract(f"{' and '.join(bad)} cannot be right")
    return presence


def clean_name(wanted: str) -> str:
    """A name of letters, digits, ``.``, ``_`` and ``-``, at most 40 of them."""
    plain = unicodedata.normalize("NFKD", wanted).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z._-]+", "-", plain).strip(".-_")[:MAX_NAME].rstrip(".-_") or "node"


def _readable(record: bytes | int) -> bytes:
    if isinstance(record, int):
        raise MalformedContract(f"{record} bytes are no presence record" if record else "it is no text")
    return record


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@contextlib.contextmanager
def typed_errors() -> Generator[None]:
    """Whatever Redis or the way there does wrong becomes BrokerUnreachable."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        # Its own text may quote what we sent.
        raise BrokerUnreachable(type(error).__name__) from None
