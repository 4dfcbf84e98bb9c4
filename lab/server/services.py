"""What the server is made of, and the threads they work on.

- one *database* thread: every read and write of the store, one transaction at a time, so nothing waits for a lock
- two *picture* threads: decoding uploads, thumbnails, checking project zips
- two *password* threads: scrypt takes 40 ms and 16 MiB on purpose

The event loop itself only moves bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from lab.server.protocol.chunks import Chunks
from lab.server.store.accounts import Account, Accounts, SignedIn
from lab.server.store.database import Store
from lab.server.store.frames import Frames
from lab.server.store.projects import Projects
from lab.server.store.renderers import gather_renderers
from lab.server.store.web_sessions import Sessions
from lab.settings import MIB, ServerSettings
from sheepfold.backoff import steady_clock

from .test_frames import MachineTests, prepare_machine_test

P = ParamSpec("P")
T = TypeVar("T")


class LabServices:
    """Everything the routes need.

    ``clock`` gives seconds since 1970 and must not jump: leases and sessions live by it. ``wall_clock`` is what people
    read. Tests pass their own.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        clock: Callable[[], float] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.clock = clock = clock or steady_clock()
        self.mode = settings.server_mode
        self.store = Store(settings.server_dir)
        self.renderers = gather_renderers(self.store, settings.renderers)
        self.accounts = Accounts(self.store, clock=clock)
        self.accounts.put(settings.login, settings.secret(), is_owner=True)
        self.sessions = Sessions(
            self.store, idle_s=settings.session_idle_s, max_broken=settings.max_broken_frames, clock=clock
        )
        self.projects = Projects(self.store, clock=wall_clock)
        self.frames = Frames(
            self.store,
            self.projects,
            lease_s=settings.lease_s,
            max_errors=settings.max_frame_errors,
            max_unvalidated=settings.max_unvalidated,
            seen_at=self.sessions.seen_at,
            clock=clock,
        )
        self.chunks = Chunks(self.store, chunk_bytes=settings.chunk_mb * MIB)
        wants_tests = settings.test_frames > 0
        self.test_frames = MachineTests(self.sessions, prepare_machine_test(self.store)) if wants_tests else None
        self._database = ThreadPoolExecutor(1, "database")
        self._pictures = ThreadPoolExecutor(2, "pictures")
        self._passwords = ThreadPoolExecutor(2, "passwords")

    async def run_in_db_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something on the database thread."""
        return await _result(self._database.submit(work, *args, **kwargs))

    async def run_in_image_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run something that reads pictures or archives."""
        return await _result(self._pictures.submit(work, *args, **kwargs))

    async def check_password(self, login: str, password: str) -> Account | None:
        """The account, if login and password are right."""
        return await _result(self._passwords.submit(self.accounts.check, login, password))

    async def check_sign_in(self, login: str, secret: str) -> SignedIn | None:
        """The account, if ``secret`` is its password or its public key."""
        return await _result(self._passwords.submit(self.accounts.sign_in, login, secret))

    def close(self) -> None:
        """Let the threads finish what they have begun, and close the store."""
        for threads in (self._passwords, self._pictures, self._database):
            threads.shutdown(wait=True, cancel_futures=True)
        self.store.close()


async def _result(future: Future[T]) -> T:
    # Shielded: a client that hangs up must not leave half of a step done.
    return await asyncio.shield(asyncio.wrap_future(future))
