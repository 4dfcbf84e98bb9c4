"""Admission: a worker that knows the farm token becomes a node and learns what it needs to take orders.

A node's identity lies in its work folder, and folders and whole disks are copied. Two running workers never share one:
the second is given an identity of its own. What tells them apart is the installation (PC and folder): a worker that is
started anew, however its earlier process ended, comes from the same one and is the same node at once. Who names a node
and does not have its secret (:mod:`coordinator.nodes.credentials`) gets an identity of its own as well.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from coordinator.runtime.shown_host import shown_host
from sheepfold.contract.api_messages import JoinAnswer, JoinRequest
from sheepfold.contract.orders import queue_of
from sheepfold.contract.presence import NODE_SILENT_AFTER_S, Presence

from .credentials import NodeCredentials
from .errors import NodeRevoked
from .join_rate import JoinRate
from .order_signing import OrderSigner
from .registry import NodeRegistry

log = logging.getLogger(__name__)

#: Copies that are remembered until they have written down who they are.
MOST_COPIES = 1000


class NodeLogins(Protocol):
    """Gives nodes what they reach Redis with (:class:`coordinator.broker.redis_users.RedisUsers`)."""

    def login_of(self, node_id: str, name: str, reached_by: str, /) -> str: ...


@dataclass(frozen=True, kw_only=True)
class _Joined:
    """Who took an identity last."""

    installation: str
    #: The clock's seconds.
    at: float


class NodeAdmission:
    """Decides which node a worker is, and tells it what it needs to take orders. Thread-safe."""

    def __init__(
        self,
        credentials: NodeCredentials,
        nodes: NodeRegistry,
        signer: OrderSigner,
        logins: NodeLogins,
        public_url: str | None,
        on_join: Callable[[JoinRequest], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._credentials, self._logins, self._rate = credentials, logins, JoinRate(clock)
        #: Node id → the worker that is that node.
        self._joined: dict[str, _Joined] = {}
        #: The id that a copy came with, its installation and its secret → the id it was given.
        self._copies: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        self._nodes, self._signer, self._public_url, self._on_join = nodes, signer, public_url, on_join

    def join(self, request: JoinRequest, reached_by: str, address: str) -> JoinAnswer:
        """A node's name and addresses, and its own login at Redis.

        ``reached_by`` is the host name the worker used for us, ``address`` its own. Raises JoinError and
        BrokerUnreachable.
        """
        with self._lock:
            self._rate.count(address)
            request = self._told_apart(request, address)
            name = self._nodes.unique_name(request.node_id, request.wanted_name)
            self._joined[request.node_id] = _Joined(installation=request.installation, at=self._clock())
        redis_url = self._logins.login_of(request.node_id, name, reached_by)
        self._on_join(request)
        log.info("%s joined from %s: %s, %d slots", name, address, request.hardware.cpu_model_name, request.slots)
        return JoinAnswer(
            name=name,
            redis_url=redis_url,
            queue=queue_of(request.node_id),
            farm_id=self._signer.farm_id,
            order_key=self._signer.order_key,
            node_id=request.node_id,
        )

    def is_node(self, node_id: str, secret: str) -> bool:
        """Whether a call under this id, with this secret, is that node's."""
        return self._credentials.is_right(node_id, secret)

    def is_taken(self, node_id: str, secret: str) -> bool:
        """Whether somebody else is this node."""
        return self._credentials.is_taken(node_id, secret)

    def is_revoked(self, node_id: str) -> bool:
        """Whether an operator turned this node out."""
        return self._credentials.is_revoked(node_id)

    def _told_apart(self, request: JoinRequest, address: str) -> JoinRequest:
        """The request, under an identity of its own where the one it names is another worker's. Raises NodeRevoked."""
        if self._credentials.is_revoked(request.node_id, request.secret):
            raise NodeRevoked(request.node_id)
        present = self._nodes.present()
        owner = self._owner_of(request.node_id, present)
        if owner and request.installation and owner != request.installation:
            why = "has the same identity as another one that is here"
        elif not self._credentials.admit(request.node_id, request.secret, present):
            why = "does not have the secret of the node it names"
        else:
            return request
        node_id = self._identity_for(request)
        log.warning(
            "a worker from %s %s (node %s): a copied disk or folder? It is a node of its own from now on (%s)",
            address,
            why,
            request.node_id,
            node_id,
        )
        self._credentials.admit(node_id, request.secret, present)
        # What it kept are copies of the other one's frames.
        return replace(request, node_id=node_id, kept=())

    def _identity_for(self, request: JoinRequest) -> str:
        """The same one for the same worker, should its answer be lost."""
        copy = (request.node_id, request.installation, request.secret)
        node_id = self._copies.setdefault(copy, str(uuid.uuid4()))
        if len(self._copies) > MOST_COPIES:
            self._copies.popitem(last=False)
        return node_id

    def _owner_of(self, node_id: str, present: Mapping[str, Presence]) -> str:
        """The installation that is this node and lives; empty where none does, or nobody knows which."""
        here, joined = present.get(node_id), self._joined.get(node_id)
        if joined is not None and (here is not None or self._clock() - joined.at < NODE_SILENT_AFTER_S):
            return joined.installation
        return here.installation if here is not None else ""

    def archive_url_for(self, reached_by: str, port: int) -> str:
        """Where somebody elsewhere finds our archive server."""
        return f"http://{shown_host(self._public_url, reached_by)}:{port}"
