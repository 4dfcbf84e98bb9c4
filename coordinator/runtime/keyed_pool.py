"""Threads that run jobs for many sessions: as many at once for each as it has work, up to a limit.

A job is called again as long as it returns that there was something to do. Whoever has work for a session calls
:meth:`KeyedThreadPool.submit`; a call that finds enough threads at work is not lost: they look again before they end.
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

    def submit(self, key: str, wanted: int, job: Callable[[], bool]) -> None:
        """There is work for ``wanted`` threads at ``key``; ``job`` does one piece of it, false when there was none."""
        with self._lock:
            if self._stopped.is_set():
                return
            self._calls[key] += 1
            more = min(wanted, self._at_once) - self._busy[key]
            self._busy[key] += max(0, more)
            for _ in range(more):
                self._pool.submit(self._run, key, job)

    def stop(self) -> None:
        """Calls no more jobs; does not wait for those under way (:meth:`join`)."""
        with self._lock:
            self._stopped.set()
        self._pool.shutdown(wait=False)

    def join(self, timeout_s: float) -> bool:
        """Waits for jobs that are under way; false when they take longer."""
        with self._idle:
            return self._idle.wait_for(lambda: not +self._busy, timeout_s)

    def _run(self, key: str, job: Callable[[], bool]) -> None:
        try:
            while not self._stopped.is_set():
                with self._lock:
                    calls = self._calls[key]
                if not job() and self._may_end(key, calls):
                    return
        except self._fatal as error:
            self._on_fatal(error)
        except Exception:
            log.exception("the work for %s failed unexpectedly and is tried again in %.0f s", key, PAUSE_AFTER_ERROR_S)
            # It counts as busy meanwhile, so that no other thread runs into the same error at once.
            self._stopped.wait(PAUSE_AFTER_ERROR_S)
        with self._lock:
            self._end(key)

    def _may_end(self, key: str, calls: int) -> bool:
        """Ends unless there was a call since; in one step, because a call in between counts on this thread."""
        with self._lock:
            if self._calls[key] != calls:
                return False
            self._end(key)
            return True

    def _end(self, key: str) -> None:
        self._busy[key] -= 1
        self._idle.notify_all()
