"""What runs for each server session: one loop that asks for frames, one that sends frames and reports back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from render_tasks.contract import Presence

from .account import Account
from .dispatcher import Dispatcher
from .leases import ACTIVE
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
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self._account, self._ledger, self._dispatcher = account, ledger, dispatcher
        self._make_uploads, self._usable, self._on_fatal = make_uploads, usable, on_fatal
        self._pairs: dict[str, _Pair] = {}

    def open_new(self) -> None:
        """Starts the loops of sessions that have none."""
        for key, session in self._account.items():
            if key not in self._pairs:
                uploads = self._make_uploads(session)
                ask = self._loop(f"ask {key}", lambda session=session: self._ask_once(session))
                upload = self._loop(
                    f"upload {key}", lambda session=session, uploads=uploads: self._upload_once(session, uploads)
                )
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
        for pair in self._pairs.values():
            pair.ask.stop()

    def stop(self) -> None:
        """Nothing more is sent either."""
        for pair in self._pairs.values():
            pair.ask.stop()
            pair.upload.stop()

    def all_sent(self) -> bool:
        """Whether nothing waits for the server."""
        return all(pair.uploads.idle() for pair in self._pairs.values())

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
        busy = any(lease.session_key == session.key for lease in self._ledger.leases(*ACTIVE))
        if session.client.endpoints is not None and not busy and uploads.idle():
            session.log_out()
