"""Revocation: a node is turned out of the farm for good, at once and whatever it does.

In this order, so that nothing it does meanwhile counts: its secret proves nothing any more, so the LAN API refuses what
it says; its user of Redis ends with its connections; its presence and its queue are deleted; its leases go to other
nodes. Frames that came from it before stay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from .credentials import NodeCredentials
from .errors import BrokerUnreachable, UnknownNode
from .present_nodes import PresentNodes
from .registry import NodeRegistry

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Revoked:
    """A node that was revoked, and whether Redis has heard of it."""

    node_id: str
    name: str
    #: False while Redis is away: the node's user ends as soon as it is back.
    is_cut_off: bool


class NodeRevocation:
    """Revokes nodes. ``end_login`` ends a user of Redis, ``take_leases`` gives a node's leases to others."""

    def __init__(
        self,
        credentials: NodeCredentials,
        nodes: NodeRegistry,
        present: PresentNodes,
        end_login: Callable[[str], None],
        take_leases: Callable[[str], None],
    ) -> None:
        self._credentials, self._nodes, self._present = credentials, nodes, present
        self._end_login, self._take_leases = end_login, take_leases

    def revoke(self, name: str) -> list[Revoked]:
        """By name or id; more than one where an earlier node had the name, too. Raises UnknownNode, LedgerError."""
        names = self._names()
        found = sorted(node_id for node_id in self._credentials.node_ids() if name in (node_id, names.get(node_id)))
        if not found:
            raise UnknownNode(name)
        return [self._revoke(node_id, names.get(node_id, node_id)) for node_id in found]

    def _revoke(self, node_id: str, name: str) -> Revoked:
        self._credentials.revoke(node_id)
        is_cut_off = True
        try:
            self._end_login(node_id)
            self._nodes.forget(node_id)
        except BrokerUnreachable as error:
            log.warning("%s is cut off from Redis as soon as that is back: %s", name, error)
            is_cut_off = False
        self._take_leases(node_id)
        log.warning("%s (node %s) was revoked", name, node_id)
        return Revoked(node_id=node_id, name=name, is_cut_off=is_cut_off)

    def _names(self) -> dict[str, str]:
        here = {node_id: node.name for node_id, node in self._present.nodes.items()}
        try:
            return self._nodes.names() | here
        except BrokerUnreachable:
            return here
