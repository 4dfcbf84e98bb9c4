"""Users of Redis: one for each node, made when it joins, and one for Flower. What each may do is in ``user_rights``.

A user's password is made of a key that the ledger keeps and of the node's own credential. It is the same at every join
of that node, nobody can work it out, and nothing is kept for each node: after Redis was started anew, and has forgotten
the users, all of them are made again. A node that comes first is refused, and joins again.

A Redis older than 7, or a login that may not make users, leaves one login for all. That is refused, unless nodes of
this machine alone can join or the settings allow it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import redis

from coordinator.leases.key_value import KeyValueStore
from coordinator.nodes.credentials import NodeCredentials
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.registry import typed_errors

from .errors import NoUserForEachNode
from .user_rights import FLOWER_USER, NODE_USER_PREFIX, flower_rules, node_rules, node_user
from .worker_address import WorkerAddress

log = logging.getLogger(__name__)

_KEY = "redis-user-key"
#: A Redis that was started anew is noticed within this.
LOOK_EVERY_S = 1.0
#: A PC that sleeps or was restarted finds its user again; one that is gone for longer joins again.
AWAY_S = 600.0
#: So often it is looked for users of nodes that are gone.
TIDY_EVERY_S = 60.0


#: redis-py tells its own name and version with it, to a Redis from 7.2 on; others do not know the command.
_SETINFO = "+client|setinfo"


class NamedNodes(Protocol):
    """What nodes are called (:class:`coordinator.nodes.registry.NodeRegistry`)."""

    def names(self) -> Mapping[str, str]: ...


class RedisUsers:
    """Makes and ends users. Thread-safe; every method may raise BrokerUnreachable unless it says otherwise."""

    def __init__(
        self,
        client: redis.Redis,
        address: WorkerAddress,
        store: KeyValueStore,
        credentials: NodeCredentials,
        named: NamedNodes,
        *,
        may_share: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``may_share``: where Redis makes no users, all use the coordinator's own login."""
        self._redis: Any = client
        self._address, self._store, self._credentials, self._named = address, store, credentials, named
        self._may_share, self._clock, self._lock = may_share, clock, threading.Lock()
        self._is_shared, self._for_all = False, (_SETINFO,)
        #: Of the server that has the users.
        self._run_id = ""
        #: Node id → the clock's seconds at which it was last here.
        self._here: dict[str, float] = {}
        self._tidied_at = -TIDY_EVERY_S

    def open(self) -> None:
        """Finds out whether Redis makes users, and makes those of all nodes that are known by name.

        Raises NoUserForEachNode where it makes none and a shared login is not allowed.
        """
        try:
            self._try_to_make_a_user()
        except redis.ResponseError as error:
            if not self._may_share:
                raise NoUserForEachNode(str(error)) from None
            log.warning("Redis makes no user for each node (%s): all of them have the coordinator's own login", error)
            self._is_shared = True
        except (redis.RedisError, OSError) as error:
            raise BrokerUnreachable(type(error).__name__) from None
        self.look_once()

    def login_of(self, node_id: str, name: str, reached_by: str) -> str:
        """The address of Redis for a node that joins; it holds the node's own password: never log it."""
        with self._lock:
            self._here[node_id] = self._clock()
        return self._login(node_user(node_id), node_rules(node_id, name, self._address.database), reached_by)

    def flower_login(self, reached_by: str) -> str:
        """The same for Flower, which may read events and ask nodes whether they live."""
        return self._login(FLOWER_USER, flower_rules(self._address.database), reached_by)

    def end(self, node_id: str) -> None:
        """Takes a node's user away and cuts its connections; where Redis is away, as soon as it is back."""
        with self._lock:
            self._tidied_at = -TIDY_EVERY_S
        if not self._is_shared:
            with typed_errors():
                self._redis.acl_deluser(node_user(node_id))

    def look_once(self, present: Collection[str] = ()) -> float:
        """For a loop: makes the users again that Redis forgot, and ends those of nodes that are gone; seconds to wait.

        ``present``: ids of the nodes that are here. Raises nothing where Redis is away: it is looked at again.
        """
        if self._is_shared:
            return TIDY_EVERY_S
        try:
            with typed_errors():
                self._follow_restart()
                self._tidy(present)
        except BrokerUnreachable as error:
            log.debug("the users of Redis cannot be looked at: %s", error)
        return LOOK_EVERY_S

    def _try_to_make_a_user(self) -> None:
        rules = flower_rules(self._address.database)
        try:
            self._set(self._redis, FLOWER_USER, rules)
        except redis.ResponseError:
            self._for_all = ()
            self._set(self._redis, FLOWER_USER, rules)

    def _login(self, user: str, rules: Sequence[str], reached_by: str) -> str:
        if self._is_shared:
            return self._address.shared_url_for(reached_by)
        with typed_errors():
            self._set(self._redis, user, rules)
        return self._address.url_for(reached_by, user, self._password(user))

    def _set(self, client: Any, user: str, rules: Sequence[str]) -> None:
        """Connections of the user stay, unless its password is another one now or it listens where it may no longer."""
        password_sum = hashlib.sha256(self._password(user).encode()).hexdigest()
        client.execute_command("ACL", "SETUSER", user, "reset", "on", f"#{password_sum}", *rules, *self._for_all)

    def _password(self, user: str) -> str:
        """Of a node that joins anew under an old id another one, for its credential is another one."""
        of_node = self._credentials.fingerprint(user.removeprefix(NODE_USER_PREFIX)) or ""
        made = hmac.digest(self._key, f"{user} {of_node}".encode(), "sha256")
        return base64.urlsafe_b64encode(made).decode("ascii").rstrip("=")

    @functools.cached_property
    def _key(self) -> bytes:
        if (kept := self._store.get_secret(_KEY)) is None:
            kept = secrets.token_hex(32)
            self._store.put_secret(_KEY, kept)
        return bytes.fromhex(kept)

    def _follow_restart(self) -> None:
        run_id = self._redis.info("server")["run_id"]
        if run_id == self._run_id:
            return
        pipe, database = self._redis.pipeline(transaction=False), self._address.database
        self._set(pipe, FLOWER_USER, flower_rules(database))
        for node_id, name in self._named.names().items():
            if self._credentials.fingerprint(node_id):
                self._set(pipe, node_user(node_id), node_rules(node_id, name, database))
        log.info("Redis has the users of %d nodes", len(pipe.execute()) - 1)
        self._run_id = run_id

    def _tidy(self, present: Collection[str]) -> None:
        """Ends the users of nodes that were not here for long, or have no credential any more."""
        with self._lock:
            now = self._clock()
            if now - self._tidied_at < TIDY_EVERY_S:
                return
            self._tidied_at = now
            node_ids = {name.removeprefix(NODE_USER_PREFIX) for name in self._user_names()}
            self._here = {node_id: now if node_id in present else self._here.get(node_id, now) for node_id in node_ids}
            gone = [node_id for node_id, seen_at in self._here.items() if now - seen_at > AWAY_S]
        gone += [node_id for node_id in node_ids if not self._credentials.fingerprint(node_id)]
        if gone:
            self._redis.acl_deluser(*map(node_user, gone))

    def _user_names(self) -> list[str]:
        """Of nodes."""
        names = (name.decode() if isinstance(name, bytes) else name for name in self._redis.acl_users())
        return [name for name in names if name.startswith(NODE_USER_PREFIX)]
