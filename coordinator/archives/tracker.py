"""What nodes are told about archives: how one travels, and from where it can be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sheepfold.contract.api_messages import ArchiveManifest, ArchiveSources

from .manifests import ManifestCache
from .peers import PeerTable


class ArchiveTracker:
    """Answers nodes' requests to the LAN API: how an archive travels, and who has it."""

    def __init__(
        self,
        path_of: Callable[[str], Path | None],
        manifests: ManifestCache,
        peers: PeerTable,
        own_url: Callable[[str], str],
    ) -> None:
        """``own_url`` is told by which host name somebody reached us, and says where our archive server is for them."""
        self._path_of, self._manifests, self._peers, self._own_url = path_of, manifests, peers, own_url

    def plan(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchiveManifest | None:
        """How an archive travels; ``None`` when it is not here. Raises ManifestUnderWay, OSError."""
        found = self._manifests.of(md5)
        if found is None:
            return None
        return ArchiveManifest(
            md5=md5,
            size=found.size,
            piece_bytes=found.piece_bytes,
            sums=found.sums,
            sources=self._named(md5, node_id, node_url, reached_by),
        )

    def sources(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchiveSources | None:
        """From where it can be had by now; ``None`` when it is not here."""
        if self._path_of(md5) is None:
            return None
        return self._named(md5, node_id, node_url, reached_by)

    def _named(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchiveSources:
        others = self._peers.others(md5, node_id)
        self._peers.asked(md5, node_id, node_url)
        return ArchiveSources(nodes=others, coordinator=self._own_url(reached_by))
