"""Who is on the LAN, as the last look at the presence records found it."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.leases.lease import Lease
from sheepfold.contract.presence import Presence


class PresentNodes:
    """Written by the thread that reconciles, read by any thread."""

    def __init__(self) -> None:
        #: Node id → its latest record. Replaced as a whole, so that it may be read without a lock.
        self.nodes: Mapping[str, Presence] = {}

    def name_of(self, node_id: str | None) -> str:
        """What people call the PC; empty for one that is not here."""
        node = self.nodes.get(node_id or "")
        return node.name if node else ""

    def remaining_s(self, lease: Lease) -> float | None:
        """Seconds the node that renders a lease says it still needs; ``None`` while it does not know."""
        node = self.nodes.get(lease.node_id or "")
        slots = node.busy if node else ()
        return next((slot.remaining_s for slot in slots if slot.lease_id == lease.id), None)
