"""The objects that the server's routes share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from lab.server.store.accounts import Account, Accounts, SignedIn
from lab.server.store.database import Store
from lab.server.store.frames import Frames
from lab.server.store.projects import Projects
from lab.server.store.renderers import gather_renderers
from lab.server.store.web_sessions import Sessions
from lab.settings import MIB, ServerSettings
from sheepfold.backoff import steady_clock
from sheepfold.serving.errors import TooManyGuesses
from sheepfold.serving.guesses import GuessBrake

from .chunks import Chunks
from .machine_test_scene import prepare_machine_test
from .test_frames import MachineTests
from .threads import ServerThreads
from .untrusted_files import UntrustedFiles

T = TypeVar("T")
#: Logins whose guesses are looked at at the same time, about; scrypt keeps two threads busy with less.
GUESS_TURNS = 64


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
        self.threads = ServerThreads()
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
        self.chunks = Chunks(self.store, self.threads, chunk_bytes=settings.chunk_mb * MIB)
        self.untrusted = UntrustedFiles()
        self._guesses, self._turns = GuessBrake(), [asyncio.Lock() for _ in range(GUESS_TURNS)]
        wants_tests = settings.test_frames > 0
        self.test_frames = MachineTests(self.sessions, prepare_machine_test(self.store)) if wants_tests else None

    async def check_password(self, login: str, password: str) -> Account | None:
        """The account, if login and password are right; raises :class:`~sheepfold.serving.errors.TooManyGuesses`."""
        known = self.accounts.recall_password(login, password)
        return known or await self._look_at_guess(login, self.accounts.check, password)

    async def check_sign_in(self, login: str, secret: str) -> SignedIn | None:
        """The account, if ``secret`` is its password or its public key; raises as :meth:`check_password` does."""
        known = self.accounts.recall(login, secret)
        return known or await self._look_at_guess(login, self.accounts.sign_in, secret)

    async def _look_at_guess(self, login: str, look: Callable[[str, str], T | None], secret: str) -> T | None:
        """One at a time for a login: the next one knows how the last one ended."""
        async with self._turns[hash(login) % len(self._turns)]:
            if wait_s := self._guesses.wait_s(login):
                raise TooManyGuesses("this login's password", wait_s)
            found = await self.threads.run_in_password_thread(look, login, secret)
            (self._guesses.wrong if found is None else self._guesses.right)(login)
            return found

    def close(self) -> None:
        """Let the threads finish what they have begun, and close the store."""
        self.threads.close()
        self.untrusted.close()
        self.store.close()
