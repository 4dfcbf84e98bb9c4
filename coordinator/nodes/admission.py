"""Admission: a worker that knows the farm token becomes a node and learns what it needs to take orders.

A node's identity lies in its work folder, and folders and whole disks are copied. Two running workers never share one:
the second is given an identity of its own. What tells them apart is the installation (PC and folder): a worker that is
started anew, however its earlier process ended, comes from the same one and is the same node at once.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit, urlunsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.leases.key_value import KeyValueStore
from sheepfold.contract.api_messages import JoinAnswer, JoinRequest
from sheepfold.contract.orders import public_key_text, queue_of
from sheepfold.contract.presence import NODE_SILENT_AFTER_S

from .registry import NodeRegistry

log = logging.getLogger(__name__)

_ORDER_KEY = "order-key"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True)
class _Joined:
    """Who took an identity last."""

    installation: str
    #: The clock's seconds.
    at: float


class NodeAdmission:
    """Admits nodes, and keeps the key that orders are signed with."""

    def __init__(
        self,
        store: KeyValueStore,
        nodes: NodeRegistry,
        redis_url: str,
        public_url: str | None,
        on_join: Callable[[JoinRequest], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._lock = clock, threading.Lock()
        #: Node id → the worker that is that node.
        self._joined: dict[str, _Joined] = {}
        #: The id that a copy came with, and its installation → the id it was given.
        self._copies: dict[tuple[str, str], str] = {}
        self._nodes, self._redis_url, self._public_url, self._on_join = nodes, redis_url, public_url, on_join
        self._store, self._key_lock = store, threading.Lock()
        self._order_key: Ed25519PrivateKey | None = None

    @property
    def order_key(self) -> Ed25519PrivateKey:
        """The farm's signing key; read from the ledger, or made, when it is first asked for."""
        with self._key_lock:
            if self._order_key is None:
                self._order_key = _kept_key(self._store)
            return self._order_key

    def join(self, request: JoinRequest, reached_by: str, address: str) -> JoinAnswer:
        """A node's name and addresses. ``reached_by`` is the host name the worker used for us, ``address`` its own."""
        with self._lock:
            request = self._told_apart(request, address)
            name = self._nodes.unique_name(request.node_id, request.wanted_name)
            self._joined[request.node_id] = _Joined(installation=request.installation, at=self._clock())
        self._on_join(request)
        log.info("%s joined from %s: %s, %d slots", name, address, request.hardware.cpu_model_name, request.slots)
        return JoinAnswer(
            name=name,
            redis_url=self.redis_url_for(reached_by),
            queue=queue_of(request.node_id),
            order_key=public_key_text(self.order_key),
            coordinator_url=self._public_url or "",
            node_id=request.node_id,
        )

    def _told_apart(self, request: JoinRequest, address: str) -> JoinRequest:
        """The request, under an identity of its own where another worker lives under the one it names."""
        owner = self._owner_of(request.node_id)
        if not owner or not request.installation or owner == request.installation:
            return request
        node_id = self._copies.setdefault((request.node_id, request.installation), str(uuid.uuid4()))
        log.warning(
            "a worker from %s has the same identity as another one that is here (node %s): a copied disk or folder? "
            "It is a node of its own from now on (%s)",
            address,
            request.node_id,
            node_id,
        )
        # What it kept are copies of the other one's frames.
        return replace(request, node_id=node_id, kept=())

    def _owner_of(self, node_id: str) -> str:
        """The installation that is this node and lives; empty where none does, or nobody knows which."""
        here, joined = self._nodes.present().get(node_id), self._joined.get(node_id)
        if joined is not None and (here is not None or self._clock() - joined.at < NODE_SILENT_AFTER_S):
            return joined.installation
        return here.installation if here is not None else ""

    def redis_url_for(self, reached_by: str) -> str:
        """The Redis address for somebody elsewhere: a loopback one is our own host's, by the name they know it by."""
        parts = urlsplit(self._redis_url)
        if parts.hostname not in _LOOPBACK:
            return self._redis_url
        login = parts.netloc.rpartition("@")[0]
        shown = self._shown_host(reached_by)
        netloc = f"{login}@{shown}:{parts.port or 6379}" if login else f"{shown}:{parts.port or 6379}"
        return urlunsplit(parts._replace(netloc=netloc))

    def archive_url_for(self, reached_by: str, port: int) -> str:
        """Where somebody elsewhere finds our archive server."""
        return f"http://{self._shown_host(reached_by)}:{port}"

    def _shown_host(self, reached_by: str) -> str:
        """This machine's name as others know it."""
        host = (urlsplit(self._public_url).hostname if self._public_url else None) or reached_by
        return f"[{host}]" if ":" in host else host


def _kept_key(store: KeyValueStore) -> Ed25519PrivateKey:
    """The farm's signing key: made once, kept in the ledger, which only its owner can read."""
    kept = store.get(_ORDER_KEY)
    if kept is not None:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(kept))
    key = Ed25519PrivateKey.generate()
    store.put(_ORDER_KEY, base64.b64encode(key.private_bytes_raw()).decode("ascii"))
    return key
