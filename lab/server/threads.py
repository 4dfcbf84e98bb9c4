"""The threads that do what would keep the event loop waiting; the loop itself only moves bytes.

- one *database* thread: every read and write of the store, one transaction at a time, so nothing waits for a lock
- two *picture* threads: decoding uploads, thumbnails, checking project zips
- two *password* threads: scrypt takes 40 ms and 16 MiB on purpose
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ServerThreads:
    """What is begun in one of them is finished, even if the client hangs up meanwhile."""

    def __init__(self) -> None:
        self._database = ThreadPoolExecutor(1, "database")
        self._pictures = ThreadPoolExecutor(2, "pictures")
        self._passwords = ThreadPoolExecutor(2, "passwords")

    async def run_in_db_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something that reads or writes the store."""
        return await _result(self._database.submit(work, *args, **kwargs))

    async def run_in_image_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something that reads pictures or archives."""
        return await _result(self._pictures.submit(work, *args, **kwargs))

    async def run_in_password_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something that checks a password."""
        return await _result(self._passwords.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Wait for what runs; what waits for a thread is dropped."""
        for threads in (self._passwords, self._pictures, self._database):
            threads.shutdown(wait=True, cancel_futures=True)


async def _result(future: Future[T]) -> T:
    # Shielded: a client that hangs up must not leave half of a step done.
    return await asyncio.shield(asyncio.wrap_future(future))
