"""Threads that run errands for many sessions: as many for each as it has work, and no more than are worth it.

An errand is called again as long as it says that there was something to do. Whoever has work for a session calls
:meth:`KeyedThreadPool.send`; a call that finds enough hands at work is not lost: they look once more before they leave.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

#: After an error nobody expected: long enough not to flood the log, short enough to recover by itself.
PAUSE_AFTER_ERROR_S = 2.0


class KeyedThreadPool:
    """Threads shared by all sessions.

    An exception named in ``fatal`` goes to ``on_fatal``, any other is logged; either ends the job, not the pool.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        at_once: int,
        fatal: type[Exception],
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self._at_once, self._fatal, self._on_fatal = at_once, fatal, on_fatal
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        #: How often a session's work was announced.
        self._calls: Counter[str] = Counter()
        self._stopped = threading.Event()
        self._idle = threading.Condition(self._lock)

    def submit(self, key: str, wanted: int, errand: Callable[[], bool]) -> None:
        """There is work for ``wanted`` at ``key``; ``errand`` does one piece of it, false when there was none."""
        with self._lock:
            if self._stopped.is_set():
                return
            self._calls[key] += 1
            more = min(wanted, self._at_once) - self._busy[key]
            self._busy[key] += max(0, more)
            for _ in range(more):
                self._pool.submit(self._run, key, errand)

    def stop(self) -> None:
        """No more errands; those under way come to their end, and those that wait for a thread find nothing to do."""
        with self._lock:
            self._stopped.set()
        self._pool.shutdown(wait=False)

    def join(self, timeout_s: float) -> bool:
        """Waits for errands that are under way; false when they take longer."""
        with self._idle:
            return self._idle.wait_for(lambda: not +self._busy, timeout_s)

    def _run(self, key: str, errand: Callable[[], bool]) -> None:
        try:
            while not self._stopped.is_set():
                with self._lock:
                    calls = self._calls[key]
                if not errand() and self._may_leave(key, calls):
                    return
        except self._fatal as error:
            self._on_fatal(error)
        except Exception:
            log.exception("an errand for %s stumbled and is tried again in %.0f s", key, PAUSE_AFTER_ERROR_S)
            # Busy meanwhile, so that nobody else is sent into the same trap at once.
            self._stopped.wait(PAUSE_AFTER_ERROR_S)
        with self._lock:
            self._leave(key)

    def _may_leave(self, key: str, calls: int) -> bool:
        """Leaves unless somebody called since; in one step, for whoever calls in between counts on us."""
        with self._lock:
            if self._calls[key] != calls:
                return False
            self._leave(key)
            return True

    def _leave(self, key: str) -> None:
        self._busy[key] -= 1
        self._idle.notify_all()
