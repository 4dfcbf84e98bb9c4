"""Nodes that a suspect frame has to itself. Pure.

A frame under which two nodes went down is tried once more, with no other frame beside it: should it take that node down
as well, nothing else is lost, and it is known to be the frame. A node is *closed* to others while it renders such a
frame, and while it is emptied for one: on a busy farm no node would ever be without a frame by itself.

Not thread-safe: :class:`~coordinator.scheduling.ranked_nodes.RankedNodes` owns it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection


class ExclusiveNodes:
    """Who has a suspect frame, and who is being emptied for one."""

    def __init__(self) -> None:
        self._suspects: Counter[str] = Counter()
        #: Lease → the node that is emptied for it.
        self._emptied: dict[str, str] = {}

    def is_closed(self, node_id: str) -> bool:
        """Whether no other frame may be placed there."""
        return self._suspects[node_id] > 0 or node_id in self._emptied.values()

    def has_suspect(self, node_id: str) -> bool:
        """Whether a suspect frame is there already."""
        return self._suspects[node_id] > 0

    def count(self, node_id: str, by: int) -> None:
        """A suspect frame comes to a node, or leaves it."""
        self._suspects[node_id] += by

    def emptied_for(self, lease_id: str) -> str | None:
        """The node that is emptied for a lease."""
        return self._emptied.get(lease_id)

    def empty(self, node_id: str, lease_id: str) -> None:
        """From now on the node is emptied for this lease."""
        self._emptied[lease_id] = node_id

    def keep_only(self, lease_ids: Collection[str]) -> set[str]:
        """Forgets the leases that no longer wait; the nodes that were emptied for them."""
        gone = self._emptied.keys() - set(lease_ids)
        return {self._emptied.pop(lease_id) for lease_id in gone}
