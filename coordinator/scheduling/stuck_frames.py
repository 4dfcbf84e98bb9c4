"""Granted frames that no node here can take: placing finds them, asking lets them keep no slot from other frames."""

from __future__ import annotations

from collections import Counter

#: Frames that no node here can take, before nothing more is asked for: more requests would only bring more of them.
STUCK_AT_MOST = 4


class StuckFrames:
    """Counts by session and kind, as the last look of the placing thread found them; any thread may read."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, bool]] = Counter()

    def replace(self, counts: Counter[tuple[str, bool]]) -> None:
        """What this look found: session key, and whether it is for a GPU → leases."""
        self._counts = counts

    def ignored(self, session_key: str, *, use_gpu: bool) -> int:
        """So many granted frames of the session keep no slot from others; never more than :data:`STUCK_AT_MOST`."""
        return min(self._counts[session_key, use_gpu], STUCK_AT_MOST)
