"""A thread that does one thing again and again until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

#: After an error nobody expected: long enough not to flood the log, short enough to recover by itself.
PAUSE_AFTER_ERROR_S = 2.0


class PeriodicThread:
    """Calls ``once`` until stopped; ``once`` returns the seconds until it wants to be called again.

    :meth:`wake` cuts the wait short. An exception named in ``fatal`` ends the loop and goes to ``on_fatal``; any other
    is logged, and the loop goes on.
    """

    def __init__(
        self,
        name: str,
        once: Callable[[], float],
        *,
        fatal: type[Exception],
        on_fatal: Callable[[Exception], None],
        wake: threading.Event | None = None,
    ) -> None:
        self._once, self._fatal, self._on_fatal = once, fatal, on_fatal
        self._wake = wake or threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> PeriodicThread:
        """Calls ``once`` for the first time at once; returns itself."""
        self._thread.start()
        return self

    def wake(self) -> None:
        """There is something to do now."""
        self._wake.set()

    def stop(self) -> None:
        """Asks the loop to end; does not wait."""
        self._stopping = True
        self._wake.set()

    def is_alive(self) -> bool:
        """False before the start, after a stop, and after a fatal error."""
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> bool:
        """Waits for the end; false when it takes longer."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                wait_s = self._once()
            except self._fatal as error:
                self._on_fatal(error)
                return
            except Exception:
                log.exception("%s failed unexpectedly and goes on in %.0f s", self._thread.name, PAUSE_AFTER_ERROR_S)
                wait_s = PAUSE_AFTER_ERROR_S
            if wait_s > 0 and not self._stopping:
                self._wake.wait(wait_s)
