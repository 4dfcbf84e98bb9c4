"""The farm lock: one coordinator for each Redis.

::

    sheepfold:coordinator   string   the holder as JSON, expires FARM_LOCK_S after its last renewal

Two coordinators on one Redis would order the same slots, and under one account they would look like a stolen
password. A second one is refused and told who the first is. A holder that died is followed when its record expires,
or at once by a coordinator with the same ledger, since that one holds the ledger's file lock and so the first cannot
be alive.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import redis

from coordinator.nodes.errors import BrokerUnreachable

from .errors import FarmLocked

log = logging.getLogger(__name__)

FARM_LOCK_KEY = "sheepfold:coordinator"
#: After a crash another coordinator may begin this much later; promised are 30 s.
FARM_LOCK_S = 20
#: Four renewals may be lost.
RENEW_EVERY_S = 4.0

# KEYS: the record. ARGV: our record, our farm id, milliseconds. Gives the other holder's record, or nothing.
_TAKE = """
local held = redis.call('GET', KEYS[1])
if held then
  local ok, holder = pcall(cjson.decode, held)
  if ok and type(holder) == 'table' and holder['farm_id'] ~= ARGV[2] then return held end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return false
"""
_RELEASE = """
local held = redis.call('GET', KEYS[1])
if held and cjson.decode(held)['farm_id'] == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The coordinator that the record in Redis names."""

    #: Kept in its ledger.
    farm_id: str
    host: str
    pid: int
    #: Unix seconds.
    since: float

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"the coordinator on {self.host} (process {self.pid}, since {since})"


class FarmLock:
    """Our record in Redis: as long as it is renewed, no coordinator with another ledger can start."""

    def __init__(self, client: redis.Redis, farm_id: Callable[[], str]) -> None:
        """``farm_id`` is read when the farm is first taken."""
        self._redis: Any = client
        self._farm_id = farm_id
        self._down = False

    @functools.cached_property
    def _me(self) -> Holder:
        return Holder(farm_id=self._farm_id(), host=socket.gethostname(), pid=os.getpid(), since=time.time())

    def take(self) -> None:
        """Takes or renews the farm.

        Raises :class:`FarmLocked` or :class:`~coordinator.nodes.errors.BrokerUnreachable`.
        """
        record = json.dumps(dataclasses.asdict(self._me))
        try:
            held = self._redis.eval(_TAKE, 1, FARM_LOCK_KEY, record, self._me.farm_id, FARM_LOCK_S * 1000)
        except redis.RedisError as error:
            raise BrokerUnreachable(str(error)) from None
        if held:
            raise FarmLocked(_holder(cast("bytes", held)))

    def renew_once(self) -> float:
        """The same for a loop; Redis being away is no reason to give up."""
        try:
            self.take()
        except BrokerUnreachable as error:
            if not self._down:
                log.warning("the farm lock in Redis cannot be renewed, trying again: %s", error)
            self._down = True
        else:
            self._down = False
        return RENEW_EVERY_S

    def release(self) -> None:
        """Lets the next one begin at once."""
        try:
            self._redis.eval(_RELEASE, 1, FARM_LOCK_KEY, self._me.farm_id)
        except redis.RedisError as error:
            log.warning("the farm lock stays in Redis for another %d s: %s", FARM_LOCK_S, error)


def _holder(record: bytes) -> Holder:
    try:
        return Holder(**json.loads(record))
    except (ValueError, TypeError):
        return Holder(farm_id="", host="an unknown host", pid=0, since=0.0)
