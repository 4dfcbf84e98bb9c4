"""How much of the machine others used while something was measured: above a few percent, seconds mean little."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
import time

import psutil

#: Who loses its parent becomes a child of this process.
_SET_SUBREAPER = 36


class CpuContention:
    """``with CpuContention() as others: ...``; afterwards ``others.share``. Own children must have been waited for."""

    share = 0.0

    def __enter__(self) -> CpuContention:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_SET_SUBREAPER, 1, 0, 0, 0)
        self._began, self._busy_s, self._own_s = time.monotonic(), _busy_s(), _own_s()
        return self

    def __exit__(self, *_: object) -> None:
        # A sandbox is killed from outside; what ran in it is ours all the same, and counts once it was waited for.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        others_s = (_busy_s() - self._busy_s) - (_own_s() - self._own_s)
        self.share = max(0.0, others_s / ((time.monotonic() - self._began) * (os.cpu_count() or 1)))


def _busy_s() -> float:
    """Of all processors since the system started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0)


def _own_s() -> float:
    """Of this process and all that it waited for, their children included."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in each)
