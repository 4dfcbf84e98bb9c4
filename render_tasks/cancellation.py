"""Cancels one attempt from another thread: a token that is set once."""

from __future__ import annotations

import threading
from collections.abc import Callable


class CancelToken:
    """Set once, by any thread; the first reason counts."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.reason = ""

    def cancel(self, reason: str) -> None:
        """Sets the token and calls the callbacks in this thread; a render ends within two seconds."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` when the token is set, at once if it is set already."""
        with self._lock:
            self._callbacks.append(callback)
            already = self._event.is_set()
        if already:
            callback()

    def is_cancelled(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleeps so long, or until cancelled; whether it is cancelled now."""
        return self._event.wait(seconds)
