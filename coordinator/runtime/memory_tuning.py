"""What Python and the C library do with our memory, set for a process that runs for weeks on many threads."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Generator

#: Of malloc.h.
M_ARENA_MAX = -8
HEAPS = 2
#: Objects made and not freed before the youngest are looked through for cycles; Python's 700 is for short programs.
GARBAGE_AFTER = 10_000


def limit_malloc_arenas() -> None:
    """Has glibc share a few heaps between all threads: each heap keeps memory that the others could use."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


@contextlib.contextmanager
def infrequent_gc() -> Generator[None]:
    """Looks for cycles of garbage seldom: frames leave none behind, and looking was a seventh of the work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 50, 100)
    try:
        yield
    finally:
        gc.unfreeze()
