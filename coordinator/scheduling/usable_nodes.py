"""Which nodes may get frames: those on the LAN that are neither quarantined nor paused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from coordinator.nodes.pauses import NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.runtime.wakeups import Wakeups
from sheepfold.contract.presence import Presence

from .node_index import NodeIndex


class SessionKeys(Protocol):
    """Knows which session speaks for a node (:class:`coordinator.upstream.session_pool.SessionPool`)."""

    def session_key(self, presence: Presence, /) -> str: ...


class UsableNodes:
    """Keeps the node index to the nodes that may get frames. Thread-safe: each part it reads is."""

    def __init__(
        self,
        present: PresentNodes,
        quarantine: NodeQuarantine,
        pauses: NodePauses,
        index: NodeIndex,
        sessions: SessionKeys,
        wakeups: Wakeups,
    ) -> None:
        self._present, self._quarantine, self._pauses = present, quarantine, pauses
        self._index, self._sessions, self._wakeups = index, sessions, wakeups

    def current(self) -> Mapping[str, Presence]:
        """Node id → presence of every node that is neither quarantined nor paused."""
        return {
            node_id: node
            for node_id, node in self._present.nodes.items()
            if not self._quarantine.is_quarantined(node_id) and not self._pauses.is_paused(node_id)
        }

    def is_index_outdated(self) -> bool:
        """Whether a node came or went since the index was last updated; those that stayed don't count."""
        return self.current().keys() != self._index.nodes().keys()

    def update_index(self) -> None:
        """Whom frames go to from now on; placing and asking begin at once."""
        usable = self.current()
        for node_id in self._index.nodes().keys() - usable.keys():
            self._index.remove(node_id)
        for node in usable.values():
            self._index.upsert(node, self._sessions.session_key(node))
        self._wakeups.placing.set()
        self._wakeups.asking.set()
