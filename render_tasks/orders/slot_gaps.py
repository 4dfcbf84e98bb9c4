"""How long slots are idle between two frames. Pure.

A *gap* lasts from a picture that is written to the moment the next frame begins on the same slot: an open Blender is
told of it, or another is started. It holds our own steps and the wait for an order that is not there yet. The node
writes each gap into its log and, every :data:`TELL_EVERY` frames, the median of the last ones.
"""

from __future__ import annotations

import statistics
from collections import deque

#: Gaps that are kept; the figure an operator sees is about so many frames.
KEPT = 50
#: The figure is told once for so many.
TELL_EVERY = 50


class SlotGaps:
    """The last gaps of a node. Threads may add side by side."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=KEPT)
        self._added = 0

    def add(self, seconds: float) -> str:
        """One more gap; a line for the log when it is time for one, else empty."""
        self._last.append(seconds)
        self._added += 1
        return "" if self._added % TELL_EVERY else self.line()

    def line(self) -> str:
        """The median and the longest of the last gaps, for the log; there must be one."""
        last = sorted(self._last)
        return (
            f"between two frames a slot was idle for {statistics.median(last) * 1000:.0f} ms in the median of the last"
            f" {len(last)}, {last[-1] * 1000:.0f} ms at most"
        )
