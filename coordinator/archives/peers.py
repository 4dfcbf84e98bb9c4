"""Which nodes can serve which archive.

A node that asks for an archive is a source from then on: it serves what it has, piece by piece. It is one as long as
it goes on asking, and afterwards as long as its presence record says that it keeps the zip. Only nodes that may get
frames are named: not those that are gone, and not those quarantined.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping

from sheepfold.contract.api_messages import ARCHIVE_URL
from sheepfold.contract.presence import Presence

#: A node that fetches asks every second; three missed requests, and its record has had time to say that it is done.
FETCHING_FOR_S = 8.0
#: Sources named in one answer, chosen by chance, so that not everybody asks the same few.
NAMED_AT_ONCE = 8


class PeerTable:
    """Filled by nodes' requests and by their presence records. Thread-safe."""

    def __init__(
        self,
        usable: Callable[[], Mapping[str, Presence]],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._usable, self._clock, self._chance = usable, clock, chance or random.Random()
        self._lock = threading.Lock()
        #: MD5 → node id → where it serves, and when it asked last.
        self._fetching: dict[str, dict[str, tuple[str, float]]] = {}

    def asked(self, md5: str, node_id: str, url: str) -> None:
        """A node fetches this archive and serves it at ``url``; what is no address is ignored."""
        if ARCHIVE_URL.fullmatch(url):
            with self._lock:
                self._fetching.setdefault(md5, {})[node_id] = (url, self._clock())

    def others(self, md5: str, node_id: str) -> tuple[str, ...]:
        """A few root URLs, none of them the asking node's own."""
        nodes = self._usable()
        found = {
            node.node_id: node.archive_url
            for node in nodes.values()
            if md5 in node.shared and ARCHIVE_URL.fullmatch(node.archive_url)
        }
        found |= {node_id: url for node_id, url in self._still_fetching(md5).items() if node_id in nodes}
        found.pop(node_id, None)
        urls = sorted(set(found.values()))
        return tuple(self._chance.sample(urls, min(NAMED_AT_ONCE, len(urls))))

    def _still_fetching(self, md5: str) -> dict[str, str]:
        with self._lock:
            oldest = self._clock() - FETCHING_FOR_S
            for wanted, nodes in list(self._fetching.items()):
                fresh = {node: (url, at) for node, (url, at) in nodes.items() if at >= oldest}
                if fresh:
                    self._fetching[wanted] = fresh
                else:
                    del self._fetching[wanted]
            return {node: url for node, (url, _) in self._fetching.get(md5, {}).items()}
