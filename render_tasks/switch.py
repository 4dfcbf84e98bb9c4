"""Stops one attempt from another thread."""

from __future__ import annotations

import threading


class Switch:
    """Stops one render from another thread; the first reason counts."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def stop(self, reason: str) -> None:
        """Ends the render within two seconds."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    def stopped(self) -> bool:
        """Whether somebody stopped it."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleeps unless stopped; whether it is stopped now."""
        return self._event.wait(seconds)
