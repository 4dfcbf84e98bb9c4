"""GRANTED leases → orders in the nodes' queues.

:meth:`FramePlacer.place_once` turns GRANTED leases whose archives are here into ORDERED ones. A lease that comes back
(node lost, attempt failed) is GRANTED again and is placed once more. One thread places.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.archives.errors import ArchiveUnavailable
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState, unchanged_s
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_batch import Transition
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.upstream.errors import ArchiveGone
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.presence import Presence

from .asking import BlockedFrames, StuckFrames
from .errors import OrderTooLarge
from .lease_archives import LeaseArchives
from .matching import PendingLease
from .node_index import NodeIndex
from .order_writer import OrderWriter
from .requirements import Archives, RequirementsBuilder, RequirementsCache

log = logging.getLogger(__name__)

#: A frame that no PC here can take is given back to the server after this long (seconds); somebody else may have one.
NOBODY_AFTER_S = 900
#: A frame that measures a PC that is not here stops its session from asking: long enough for one that joins again.
MEASURED_PC_GONE_S = 60


class LeaseReturner(Protocol):
    """Where leases go that are not rendered (:class:`coordinator.delivery.claims.Claims`)."""

    def take_back(self, lease: Lease, reason: str, /) -> None: ...
    def give_up(self, lease: Lease, report: FailureReport, /) -> None: ...


class PresentNodes(Protocol):
    """Who is on the LAN (:class:`coordinator.nodes.present_nodes.PresentNodes`)."""

    @property
    def nodes(self) -> Mapping[str, Presence]: ...


class NodeTroubles(Protocol):
    """PCs in trouble of their own (:class:`coordinator.nodes.pauses.NodePauses`)."""

    def troubled_s(self, lease: Lease, /) -> float: ...
    def summary(self, present: Mapping[str, Presence], /) -> str: ...


@dataclass(frozen=True, kw_only=True)
class PlacementServices:
    """What :class:`FramePlacer` reads and calls, from matching to sending the order."""

    ledger: Ledger
    nodes: NodeIndex
    present: PresentNodes
    requirements: RequirementsBuilder
    archives: LeaseArchives
    orders: OrderWriter
    returns: LeaseReturner
    troubles: NodeTroubles
    blocked: BlockedFrames
    stuck: StuckFrames
    #: The ledger's: Unix seconds that never jump.
    clock: Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class _Placement:
    """A lease, the node it goes to, and its archives."""

    lease: Lease
    node: Presence
    archives: Archives


class FramePlacer:
    """Orders granted leases from nodes. Used by one thread."""

    def __init__(self, services: PlacementServices) -> None:
        self._services = services
        self._ledger, self._nodes, self._returns = services.ledger, services.nodes, services.returns
        self._troubles, self._blocked = services.troubles, services.blocked
        #: The clock's seconds of the first look: nobody knows how long a lease waited before.
        self._began_at: float | None = None

    def place_once(self) -> int:
        """Orders every GRANTED lease that has its archives and a node; returns how many.

        Leases are matched one by one and entered together: one transaction, however many places there are. Raises
        :class:`~coordinator.nodes.errors.BrokerUnreachable`; what was not sent is GRANTED again then.
        """
        self._services.archives.forget_unneeded()
        pending = self._pending()
        leases = [waiting.lease for waiting, _ in pending]
        # A frame that PCs had trouble with waits behind the others: should it be the trouble itself, they are rendered.
        pending.sort(key=lambda entry: self._troubles.troubled_s(entry[0].lease) > 0)
        matches = self._nodes.match([waiting for waiting, _ in pending])
        present = self._services.present.nodes
        placements = [
            _Placement(lease=waiting.lease, node=node, archives=archives)
            for waiting, archives in pending
            if (node := present.get(matches.get(waiting.lease.id, "")))
        ]
        self._note_stuck([waiting for waiting, _ in pending if waiting.lease.id not in matches])
        try:
            return self._order_all(placements)
        finally:
            for lease in leases:
                self._nodes.release(lease)

    def close(self) -> None:
        """Begins no more downloads of archives, and breaks off those under way."""
        self._services.archives.close()

    def _pending(self) -> list[tuple[PendingLease, Archives]]:
        """Every lease that could be ordered now, with its archives, oldest first; what is blocked goes back."""
        now = self._services.clock()
        if self._began_at is None:
            self._began_at = now
        found: list[tuple[PendingLease, Archives]] = []
        cache = RequirementsCache(self._archives_of, self._services.requirements.of)
        for lease in self._ledger.leases(LeaseState.GRANTED):
            if block := self._blocked.block_of(lease):
                self._blocked.turn_away(lease, block)
            elif archives := cache.archives_of(lease):
                waited_s = unchanged_s(lease, now, self._began_at)
                found.append((PendingLease(lease=lease, need=cache.need_of(lease), waited_s=waited_s), archives))
        return found

    def _archives_of(self, lease: Lease) -> Archives | None:
        try:
            return self._services.archives.of(lease)
        except (ArchiveGone, ArchiveUnavailable) as error:
            self._returns.give_up(lease, FailureReport(kind=FailureKind.NO_ARCHIVE, reason=str(error)))
            return None

    def _note_stuck(self, unplaced: Sequence[PendingLease]) -> None:
        """Frames that no node here could ever take count for no place, and are given back after a while."""
        stuck: Counter[tuple[str, bool]] = Counter()
        for waiting in unplaced:
            if not self._nodes.can_anybody(waiting.need, waiting.lease.session_key):
                stuck[waiting.lease.session_key, waiting.need.use_gpu] += 1
                limit_s = NOBODY_AFTER_S if waiting.need.only_node is None else MEASURED_PC_GONE_S
                waited_s = max(waiting.waited_s, self._troubles.troubled_s(waiting.lease))
                if waited_s > limit_s:
                    self._give_back(waiting.lease, waited_s)
        self._services.stuck.replace(stuck)

    def _give_back(self, lease: Lease, waited_s: float) -> None:
        reason = f"no PC of this farm could take it for {waited_s / 60:.0f} minutes"
        if why := self._troubles.summary(self._services.present.nodes):
            reason += f" ({why})"
        self._returns.give_up(lease, FailureReport(kind=FailureKind.NODE_LEAVING, reason=reason))

    def _order_all(self, placements: Sequence[_Placement]) -> int:
        outcomes = self._ledger.apply_many([_transition(placement) for placement in placements])
        # A lease that was cancelled meanwhile has no order.
        ordered = [
            (placement, lease)
            for placement, lease in zip(placements, outcomes, strict=True)
            if isinstance(lease, Lease)
        ]
        for position, (placement, lease) in enumerate(ordered):
            try:
                self._send(lease, placement)
            except BrokerUnreachable as error:
                for _, unsent in ordered[position:]:
                    self._returns.take_back(unsent, str(error))
                raise
        return len(ordered)

    def _send(self, lease: Lease, placement: _Placement) -> None:
        try:
            self._services.orders.send(lease, placement.node, placement.archives)
        except OrderTooLarge as error:
            self._returns.give_up(lease, FailureReport(kind=FailureKind.BAD_ORDER, reason=str(error)))
            return
        log.info("%s ordered from %s (attempt %d)", lease.label, placement.node.name, lease.attempt)


def _transition(placement: _Placement) -> Transition:
    lease = placement.lease
    return Transition(lease_id=lease.id, event=LeaseEvent.ORDER, attempt=lease.attempt, node_id=placement.node.node_id)
