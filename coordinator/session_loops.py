"""What runs for each server session: one loop that asks for frames, one that sends frames and reports back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from render_tasks.contract import Presence

from .account import Account
from .dispatcher import Dispatcher
from .leases import ACTIVE, Lease
from .ledger import Ledger
from .loops import Loop
from .sessions import FarmSession, FatalRefusal, SessionState
from .uploads import Uploads

#: Loops look around this often even when nobody wakes them.
IDLE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class _Pair:
    uploads: Uploads
    ask: Loop
    upload: Loop


class SessionLoops:
    """The loops of every session; new sessions get theirs with :meth:`open_new`."""

    def __init__(
        self,
        account: Account,
        ledger: Ledger,
        dispatcher: Dispatcher,
        make_uploads: Callable[[FarmSession], Uploads],
        usable: Callable[[], Mapping[str, Presence]],
        lose: Callable[[Lease, str], None],
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self._account, self._ledger, self._dispatcher = account, ledger, dispatcher
        self._make_uploads, self._usable, self._on_fatal = make_uploads, usable, on_fatal
        self._lose = lose
        self._pairs: dict[str, _Pair] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def open_new(self) -> None:
        """Starts the loops of sessions that have none; after :meth:`stop_asking` no more."""
        with self._lock:
            if not self._stopped:
                for key, session in self._account.items():
                    self._open(key, session)

    def _open(self, key: str, session: FarmSession) -> None:
        if key in self._pairs:
            return
        uploads = self._make_uploads(session)
        ask = self._loop(f"ask {key}", lambda: self._ask_once(session))
        upload = self._loop(f"upload {key}", lambda: self._upload_once(session, uploads))
        self._pairs[key] = _Pair(uploads=uploads, ask=ask, upload=upload)
        ask.start()
        upload.start()

    def wake_asking(self) -> None:
        """A slot may be free."""
        for pair in list(self._pairs.values()):
            pair.ask.wake()

    def wake_uploading(self, key: str | None = None) -> None:
        """A session, or every one, has something to send."""
        for pair in [self._pairs[key]] if key in self._pairs else list(self._pairs.values()):
            pair.upload.wake()

    def stop_asking(self) -> None:
        """No more frames."""
        with self._lock:
            self._stopped = True
        for pair in self._pairs.values():
            pair.ask.stop()

    def stop(self) -> None:
        """Nothing more is sent either."""
        self.stop_asking()
        for pair in self._pairs.values():
            pair.upload.stop()

    def can_send_more(self) -> bool:
        """Whether something waits for the server, and somebody is there to send it."""
        return any(pair.upload.is_alive() and not pair.uploads.idle() for pair in self._pairs.values())

    def join_asking(self, timeout_s: float) -> None:
        """Waits for questions that are under way."""
        deadline = time.monotonic() + timeout_s
        for pair in self._pairs.values():
            pair.ask.join(max(0.0, deadline - time.monotonic()))

    def _loop(self, name: str, once: Callable[[], float]) -> Loop:
        return Loop(name, once, fatal=FatalRefusal, on_fatal=self._on_fatal)

    def _ask_once(self, session: FarmSession) -> float:
        if session.ensure_signed_in():
            nodes = self._account.groups(self._usable()).get(session.key, [])
            if self._dispatcher.ask_once(session, nodes):
                return 0
        return IDLE_S

    def _upload_once(self, session: FarmSession, uploads: Uploads) -> float:
        if uploads.flush_once():
            self.wake_asking()
            return 0
        if session.state is SessionState.DISABLED:
            self._leave_disabled(session, uploads)
        return IDLE_S

    def _leave_disabled(self, session: FarmSession, uploads: Uploads) -> None:
        """A disabled session is logged out once its last frame has been told to the server."""
        leases = [lease for lease in self._ledger.leases(*ACTIVE) if lease.session_key == session.key]
        if session.is_over:
            for lease in leases:
                self._lose(lease, "the server has disabled the session and takes nothing more")
        elif not leases and uploads.idle():
            session.log_out()
