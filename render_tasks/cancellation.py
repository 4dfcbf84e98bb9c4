"""Stops one attempt from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable


class CancelToken:
    """Stops one render from another thread; the first reason counts."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._told: list[Callable[[], None]] = []
        self.reason = ""

    def cancel(self, reason: str) -> None:
        """Ends the render within two seconds."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            told = list(self._told)
        for tell in told:
            tell()

    def add_callback(self, listener: Callable[[], None]) -> None:
        """Calls ``listener`` when it is stopped, at once if it is stopped already."""
        with self._lock:
            self._told.append(listener)
            already = self._event.is_set()
        if already:
            listener()

    def is_cancelled(self) -> bool:
        """Whether somebody stopped it."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleeps unless stopped; whether it is stopped now."""
        return self._event.wait(seconds)
