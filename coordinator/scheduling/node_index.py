"""The farm's nodes in the order of choice: which node gets which offer. Pure: no I/O, no clock.

Among the nodes that qualify (:mod:`coordinator.scheduling.matching`) the first of this order wins:

1. one that has not failed this lease yet,
2. one with a free slot before one where the order would wait (look-ahead): no node stands idle for the sake of warmth,
3. one with the scene open in a Blender, then one that holds the scene, then one that holds the renderer,
4. the least busy for its slots, then the one with the most cores,
5. by name, so that the same farm always decides the same.

A farm that works on several jobs at once first gives every free slot a frame of the scene it has open, and only then
whatever is left (:meth:`NodeIndex.match`).

:mod:`coordinator.scheduling.ranked_nodes` keeps the nodes in this order, so that a choice looks at a few of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from coordinator.leases.lease import Lease, LeaseState
from sheepfold.contract.presence import Presence
from sheepfold.protocol.messages import ComputeMethod

from .matching import Capacity, ColdStart, PendingLease, Requirements, can_render
from .ranked_nodes import RankedNodes

_WITH_NODES = (LeaseState.ORDERED, LeaseState.RENDERING)
#: So long a frame rather waits for a PC that has its scene open, or for a free slot, than behind another scene's frame.
#: Simulated with 50 PCs, 8 jobs and frames of 10 s: 8 % of the renders begin cold, with 2 s it is 27 %, with none 87 %.
WARMTH_WORTH_S = 10.0


class NodeIndex:
    """The nodes that may get orders, and the orders that each one holds. Thread-safe.

    :meth:`upsert` and :meth:`remove` follow the presence records, :meth:`on_lease_change` the ledger.
    """

    def __init__(self, *, look_ahead: int) -> None:
        self._lock = threading.Lock()
        self._ranked = RankedNodes(look_ahead=look_ahead)
        #: Lease → the node it was chosen for, until the ledger says so.
        self._expected: dict[str, str] = {}

    # What happens

    def upsert(self, node: Presence, group: str) -> None:
        """A node that may get orders, as its latest record describes it."""
        with self._lock:
            self._ranked.put(node, group)

    def remove(self, node_id: str) -> None:
        """It gets no more orders: it is gone, or quarantined."""
        with self._lock:
            self._ranked.remove(node_id)

    def nodes(self) -> dict[str, Presence]:
        """A copy, by node id: nodes may come and go while it is read."""
        with self._lock:
            return {node_id: place.presence for node_id, place in self._ranked.nodes.items()}

    def on_lease_change(self, before: Lease | None, after: Lease) -> None:
        """A step of a lease (:data:`coordinator.leases.ledger.Watcher`)."""
        had = before.node_id if before is not None and before.state in _WITH_NODES else None
        has = after.node_id if after.state in _WITH_NODES else None
        with self._lock:
            had = had or self._expected.pop(after.id, None)
            if after.state is LeaseState.DELIVERED and after.delivery and had:
                self._ranked.note_render(had, after.delivery.render_s)
            if had == has:
                return
            if had:
                self._ranked.count(had, -1, None, is_suspect=(before or after).is_suspect)
            if has:
                self._ranked.count(has, +1, after.scene_key, is_suspect=after.is_suspect)

    def reserve(self, lease: Lease, node_id: str) -> None:
        """The node is about to get this lease; the next choice must know before the ledger does."""
        with self._lock:
            self._expected[lease.id] = node_id
            self._ranked.count(node_id, +1, lease.scene_key, is_suspect=lease.is_suspect)

    def release(self, lease: Lease) -> None:
        """The ledger has been asked: an expectation that it did not fulfil is none."""
        with self._lock:
            node_id = self._expected.pop(lease.id, None)
            if node_id:
                self._ranked.count(node_id, -1, None, is_suspect=lease.is_suspect)

    # What is asked

    def capacity(self, group: str) -> Capacity:
        """Places left at the nodes of a group."""
        with self._lock:
            places = self._ranked.group(group).places
            return Capacity(
                cpu_only=places[ComputeMethod.CPU_ONLY],
                gpu_only=places[ComputeMethod.GPU_ONLY],
                either=places[ComputeMethod.CPU_OR_GPU],
            )

    def match(self, wishes: Sequence[PendingLease]) -> dict[str, str]:
        """Lease id → node id, for every pending lease that finds a node now; its place is reserved.

        ``wishes`` stand oldest first. Suspects, which want a node to themselves, go first. Those that have waited take
        what they can get; the others first look for free slots with their scene open, then for any free slot.
        """
        found = self._match_alone([pending for pending in wishes if pending.need.alone])
        wishes = [pending for pending in wishes if not pending.need.alone]
        # The index only gets fuller here: where one frame of a job found no place, the others need not look.
        hopeless: set[tuple[Requirements, str, ColdStart]] = set()
        patient = [pending for pending in wishes if pending.waited_s < WARMTH_WORTH_S]
        for some, cold in (
            ([pending for pending in wishes if pending.waited_s >= WARMTH_WORTH_S], ColdStart.ANYWHERE),
            (patient, ColdStart.NOWHERE),
            (patient, ColdStart.IN_A_FREE_SLOT),
        ):
            for pending in some:
                group = pending.lease.session_key
                if pending.lease.id in found or (pending.need, group, cold) in hopeless:
                    continue
                if node_id := self.choose(pending.need, group, cold):
                    found[pending.lease.id] = node_id
                    self.reserve(pending.lease, node_id)
                else:
                    hopeless.add((pending.need, group, cold))
        return found

    def _match_alone(self, wishes: Sequence[PendingLease]) -> dict[str, str]:
        """A node without any frame for each of them; where there is none, one is closed to others until it is empty."""
        found: dict[str, str] = {}
        with self._lock:
            self._ranked.stop_emptying_but_for([pending.lease.id for pending in wishes])
        for pending in wishes:
            with self._lock:
                node_id = self._ranked.empty_node(pending.need, pending.lease)
            if node_id:
                found[pending.lease.id] = node_id
                self.reserve(pending.lease, node_id)
        return found

    def choose(self, need: Requirements, group: str, cold: ColdStart = ColdStart.ANYWHERE) -> str | None:
        """The id of the best node, or ``None`` where none qualifies; :attr:`ColdStart.NOWHERE`: free slots only."""
        with self._lock:
            here = self._ranked.group(group)
            # A frame that failed waits for a PC that has not failed it, if there is one.
            tried = need.tried if need.tried and self._somebody_new(need, group) else ()
            tiers = [(here.free, cold is not ColdStart.NOWHERE)]
            if cold is not ColdStart.NOWHERE:
                tiers.append((here.waiting, cold is ColdStart.ANYWHERE))
            for tier, may_be_cold in tiers:
                for holders in self._ranked.by_warmth(need, may_be_cold=may_be_cold):
                    found = self._ranked.first(tier, holders, need, tried)
                    if found is not None:
                        return found
            return None

    def can_anybody(self, need: Requirements, group: str) -> bool:
        """Whether some node of the group could ever render it."""
        with self._lock:
            nodes = self._ranked.nodes.values()
            return any(node.group == group and can_render(need, node.presence) for node in nodes)

    def able(self, need: Requirements, group: str) -> set[str]:
        """The nodes of the group that could render it and take orders."""
        with self._lock:
            return {
                node_id
                for node_id, place in self._ranked.nodes.items()
                if place.group == group and place.presence.accepting and can_render(need, place.presence)
            }

    def _somebody_new(self, need: Requirements, group: str) -> bool:
        return any(
            place.group == group
            and place.presence.accepting
            and place.presence.node_id not in need.tried
            and can_render(need, place.presence)
            for place in self._ranked.nodes.values()
        )
