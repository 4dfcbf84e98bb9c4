"""Looks who is on the LAN and brings leases and nodes back together where they disagree.

* A node that fell silent is lost: its leases go to others at once. What it was rendering may be why it went down.
* A node that says it holds a lease that is no longer its own is told again to drop it (a message can be missed).
* A lease whose node is there but does not hold it (it restarted, Redis lost the order, or the order waited there until
  it was too old to be opened) goes back. Where it still lies in the node's queue, the node answers and takes nothing.

Silence proves nothing while records could not arrive; :class:`coordinator.nodes.registry.Sweep` says when it does
(``settled``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Protocol

from coordinator.delivery.claims import Claims
from coordinator.leases.errors import LeaseError
from coordinator.leases.lease import Lease, LeaseState, unchanged_s
from coordinator.leases.ledger import Ledger
from sheepfold.contract.api_messages import JoinRequest
from sheepfold.contract.presence import NODE_SILENT_AFTER_S, Presence, SlotState, Stage
from sheepfold.contract.signing import ORDER_GOOD_FOR_S

from .errors import BrokerUnreachable
from .present_nodes import PresentNodes
from .registry import NodeRegistry

log = logging.getLogger(__name__)

#: A node with an idle slot picks an order up at once; after this many seconds the order was lost on its way.
ORDER_LOST_AFTER_S = 30.0


class StalledNodes(Protocol):
    """What follows when a node answers and takes nothing (:class:`coordinator.lease_events.LeaseEvents`)."""

    def stalled_nodes(self) -> Collection[str]: ...
    def node_takes_nothing(self, node: Presence, waiting: int, /) -> None: ...
    def node_takes_orders(self, node_id: str, /) -> None: ...


class Reconciler:
    """One look at the LAN each time :meth:`sweep_once` is called."""

    def __init__(
        self,
        nodes: NodeRegistry,
        present: PresentNodes,
        ledger: Ledger,
        claims: Claims,
        cancel_on_node: Callable[[str, str, int], None],
        stalls: StalledNodes,
        *,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` is the ledger's; it must not jump, for leases that are long without a sign are taken back."""
        self._nodes, self._present, self._ledger, self._claims = nodes, present, ledger, claims
        self._cancel_on_node, self._stalls = cancel_on_node, stalls
        self._clock, self._began_at = clock, clock()
        #: Redis did not answer the last look.
        self.broker_down = False
        #: Node id → ``<lease id>.<attempt>`` of frames an earlier process of it kept and it is about to deliver.
        self._kept: dict[str, frozenset[str]] = {}
        #: Node id → its latest record, of nodes that went down as well, until their leases were taken back.
        self._records: dict[str, Presence] = {}

    def sweep_once(self) -> bool:
        """True when there may be something new to place or to ask for."""
        try:
            sweep = self._nodes.sweep()
        except BrokerUnreachable as error:
            if not self.broker_down:
                log.error("Redis does not answer (%s): nodes go on rendering, no lease is taken back meanwhile", error)
            self.broker_down = True
            return False
        if self.broker_down:
            log.info("Redis is back")
            self.broker_down = False
        before, self._present.nodes = self._present.nodes, sweep.present
        self._records |= sweep.present
        for node_id in sweep.returned:
            log.info("%s is here", sweep.present[node_id].name)
        for node_id in sweep.lost:
            log.warning("%s is gone: its frames go to other PCs", before[node_id].name)
            self._kept.pop(node_id, None)
            try:
                self._nodes.forget(node_id)
            except BrokerUnreachable as error:
                # Its orders stay in its queue; the start-fence turns them away.
                log.warning("the orders in the queue of %s cannot be deleted yet: %s", before[node_id].name, error)
        for node in sweep.present.values():
            self._cancel_unowned(node)
        taken_back = sweep.settled and self._take_back_lost(sweep.present)
        return taken_back or sweep.present != before

    def joined(self, request: JoinRequest) -> None:
        """A worker process that has just begun has none of its node's leases, but for the frames it kept.

        Whether we know the node does not matter: we may have been started anew ourselves.
        """
        leases = self._ledger.leases(LeaseState.ORDERED, LeaseState.RENDERING)
        mine = {f"{lease.id}.{lease.attempt}": lease for lease in leases if lease.node_id == request.node_id}
        self._kept[request.node_id] = frozenset(mine) & frozenset(request.kept)
        if request.fresh:
            for key in mine.keys() - self._kept[request.node_id]:
                self._node_went_down(mine[key], "its PC was started anew")

    def _take_back_lost(self, present: dict[str, Presence]) -> bool:
        taken_back = self._find_stalled(present)
        for lease in self._ledger.leases(LeaseState.ORDERED, LeaseState.RENDERING):
            node = present.get(lease.node_id or "")
            if node is None:
                self._node_went_down(lease, "its PC fell silent")
            elif self._is_lost_on(node, lease):
                self._claims.take_back(lease, f"{node.name} does not have it")
            else:
                continue
            taken_back = True
        self._records = dict(present)
        return taken_back

    def _find_stalled(self, present: dict[str, Presence]) -> bool:
        """True where a node that leaves its orders in its queue is newly found."""
        suspects = {
            node.node_id
            for lease in self._ledger.leases(LeaseState.ORDERED)
            if (node := present.get(lease.node_id or "")) and self._is_lost_on(node, lease)
        }
        known = frozenset(self._stalls.stalled_nodes())
        try:
            waiting = self._nodes.waiting_orders(sorted(known | suspects))
        except BrokerUnreachable:
            return False  # the next look tells
        new = {node_id for node_id, count in waiting.items() if count and node_id not in known}
        for node_id in new:
            self._stalls.node_takes_nothing(present[node_id], waiting[node_id])
        for node_id in known:
            if not waiting[node_id]:
                self._stalls.node_takes_orders(node_id)
        return bool(new)

    def _node_went_down(self, lease: Lease, reason: str) -> None:
        """What it was rendering may have done that; what waited there, or was on its way to us, has not."""
        if lease.state is LeaseState.RENDERING and self._was_rendering(lease):
            self._claims.node_lost(lease, reason)
        else:
            self._claims.take_back(lease, reason)

    def _was_rendering(self, lease: Lease) -> bool:
        """By the node's last record; where that tells of no render, it may have been any that passed its fence."""
        record = self._records.get(lease.node_id or "")
        rendering = {slot.lease_id for slot in (record.busy if record else ()) if slot.stage is Stage.RENDERING}
        return not rendering or lease.id in rendering

    def _cancel_unowned(self, node: Presence) -> None:
        for slot in node.busy:
            if slot.stage is Stage.DELIVERING:
                continue  # the fence at the delivery decides
            if not self._is_its_own(node, slot):
                self._cancel_on_node(node.node_id, slot.lease_id, slot.attempt)

    def _is_its_own(self, node: Presence, slot: SlotState) -> bool:
        try:
            lease = self._ledger.get(slot.lease_id)
        except LeaseError:
            return False
        if (lease.attempt, lease.node_id) != (slot.attempt, node.node_id):
            return False
        # A frame that came from there and went on to the server: the record is a little old, and nobody is to be told.
        return lease.state in _ON_NODES or lease.state in _CAME_FROM_THERE

    def _is_lost_on(self, node: Presence, lease: Lease) -> bool:
        if any(slot.lease_id == lease.id for slot in node.busy):
            return False
        if f"{lease.id}.{lease.attempt}" in self._kept.get(node.node_id, ()):
            return False
        quiet_s = unchanged_s(lease, self._clock(), self._began_at)
        if lease.state is LeaseState.RENDERING:
            # Its record is at most one silence period old, so it was written after the start.
            return quiet_s > NODE_SILENT_AFTER_S
        if len(node.busy) < node.slots:
            return quiet_s > ORDER_LOST_AFTER_S
        # It waits for a thread of its node, which would refuse it by now.
        return quiet_s > ORDER_GOOD_FOR_S + NODE_SILENT_AFTER_S


_ON_NODES = (LeaseState.ORDERED, LeaseState.RENDERING, LeaseState.DELIVERED)
_CAME_FROM_THERE = (LeaseState.ACCEPTED, LeaseState.REFUSED)
