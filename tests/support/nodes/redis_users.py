"""The coordinator's users of Redis, made by its own code on a ledger of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import redis

from coordinator.broker.redis_users import RedisUsers
from coordinator.broker.worker_address import WorkerAddress
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from coordinator.nodes.credentials import NodeCredentials
from coordinator.nodes.registry import connect
from sheepfold.contract.api_messages import JoinRequest
from tests.support.clocks import ManualClock
from tests.support.coordinator.builders import open_ledger
from tests.support.coordinator.fakes import NODE_SECRET


def as_text(name: bytes | str) -> str:
    """Versions of redis-py differ in what they give."""
    return name.decode() if isinstance(name, bytes) else name


@dataclass
class NamedNodes:
    """Node id → name, as the registry knows them."""

    of: dict[str, str] = field(default_factory=dict)

    def names(self) -> Mapping[str, str]:
        return dict(self.of)


class UsersHarness:
    """Users of one Redis, and what they stand on."""

    def __init__(self, redis_url: str, folder: Path, *, may_share: bool = False, worker_url: str | None = None) -> None:
        self.ledger: Ledger = open_ledger(folder / "state" / "ledger.sqlite")
        self.store = KeyValueStore(self.ledger.database)
        self.credentials, self.named, self.clock = NodeCredentials(self.store), NamedNodes(), ManualClock()
        self.client: redis.Redis = connect(redis_url)
        address = WorkerAddress(redis_url, worker_url, None)
        self._make: Callable[[], RedisUsers] = lambda: RedisUsers(
            self.client, address, self.store, self.credentials, self.named, may_share=may_share, clock=self.clock
        )
        self.users = self._make()

    def restart(self) -> RedisUsers:
        """Another coordinator on the same ledger."""
        self.users = self._make()
        self.users.open()
        return self.users

    def admit(self, node_id: str, name: str, secret: str = NODE_SECRET) -> str:
        """The address that this node is told."""
        assert self.credentials.admit(node_id, secret, ())
        self.named.of[node_id] = name
        return self.users.login_of(node_id, name, "127.0.0.1")

    def admit_worker(self, request: JoinRequest) -> str:
        """The same for a worker that asks to join."""
        return self.admit(request.node_id, request.wanted_name, request.secret)

    def node_users(self) -> set[str]:
        """Names of the nodes' users in Redis."""
        return {name for name in map(as_text, self.client.acl_users()) if name.startswith("sheepfold-node-")}

    def close(self) -> None:
        """Ends the users, the client and the ledger."""
        users = [*self.node_users(), "sheepfold-flower"]
        self.client.acl_deluser(*users)
        self.client.acl_log_reset()
        self.client.close()
        self.ledger.database.close()
