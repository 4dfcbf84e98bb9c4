"""What runs for the server sessions: frames are asked for, frames and reports go back, several at a time.

Two loops look which session has something to do; the work itself is done by two pools of threads that all sessions
share, so that a farm with a session for every PC has as many threads as one with a single session.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coordinator.leases.lease import ACTIVE, Lease
from coordinator.leases.ledger import Ledger
from coordinator.runtime.keyed_pool import KeyedThreadPool
from coordinator.runtime.periodic import PeriodicThread
from coordinator.runtime.wakeups import Wakeups
from coordinator.upstream.uploads.frame_limit import FrameLimit
from coordinator.upstream.uploads.session_uploads import SessionUploads

from .errors import FatalRefusal
from .session import FarmSession
from .session_pool import SessionPool
from .session_state import SessionState

#: Loops look around this often even when nobody wakes them.
IDLE_S = 1.0
#: Exchanges of one session at the same time: enough to hide the server's distance, few enough to be a polite client.
ASKS_AT_ONCE = 4
UPLOADS_AT_ONCE = 4
#: Of all sessions together.
THREADS = 8


class Asker(Protocol):
    """What turns free places into frames (:class:`coordinator.scheduling.asking.FrameRequester`)."""

    def wanted(self, session_key: str) -> int: ...
    def ask_once(self, session: FarmSession) -> bool: ...


class LostLeases(Protocol):
    """Ends leases that the server no longer knows (:class:`coordinator.lease_events.LeaseEvents`)."""

    def lose(self, lease: Lease, reason: str, /) -> None: ...


class FatalListener(Protocol):
    """Is told of an error that waiting cannot mend (:class:`coordinator.runtime.stop_request.StopRequest`)."""

    def fail(self, error: Exception, /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class _ActiveSession:
    """A session at work."""

    session: FarmSession
    uploads: SessionUploads
    limit: FrameLimit


class SessionLoops:
    """Asks and uploads for every session; new sessions are taken up with :meth:`open_new`."""

    def __init__(
        self,
        sessions: SessionPool,
        ledger: Ledger,
        requester: Asker,
        make_uploads: Callable[[FarmSession], SessionUploads],
        events: LostLeases,
        wakeups: Wakeups,
        stop: FatalListener,
    ) -> None:
        """``make_uploads`` makes what sends a session's frames, once for each."""
        self._sessions, self._ledger, self._requester = sessions, ledger, requester
        self._make_uploads, self._events, self._stop, self._wakeups = make_uploads, events, stop, wakeups
        self._active: dict[str, _ActiveSession] = {}
        self._lock = threading.Lock()
        self._stopped = False
        #: Signing in was refused for good in the middle of an upload.
        self._cannot_send = False
        self._ask = PeriodicThread("ask", self._ask_round, fatal=FatalRefusal, on_fatal=stop.fail, wake=wakeups.asking)
        self._upload = PeriodicThread(
            "upload", self._upload_round, fatal=FatalRefusal, on_fatal=stop.fail, wake=wakeups.uploading
        )
        self._asking = KeyedThreadPool(
            "asking", threads=THREADS, at_once=ASKS_AT_ONCE, fatal=FatalRefusal, on_fatal=stop.fail
        )
        self._uploading = KeyedThreadPool(
            "uploading", threads=THREADS, at_once=UPLOADS_AT_ONCE, fatal=FatalRefusal, on_fatal=self._end_uploading
        )

    def _end_uploading(self, error: Exception) -> None:
        self._cannot_send = True
        self._stop.fail(error)

    def start(self) -> None:
        """Looks after the sessions from now on."""
        self.open_new()
        self._ask.start()
        self._upload.start()

    def open_new(self) -> None:
        """Takes up sessions that are new; after :meth:`stop_asking` no more."""
        with self._lock:
            if self._stopped:
                return
            for key, session in self._sessions.items():
                if key not in self._active:
                    uploads = self._make_uploads(session)
                    limit = FrameLimit(session, uploads.held)
                    self._active[key] = _ActiveSession(session=session, uploads=uploads, limit=limit)

    def stop_asking(self) -> None:
        """Asks for no more frames; does not wait for requests under way (:meth:`join_asking`)."""
        with self._lock:
            self._stopped = True
        self._ask.stop()
        self._asking.stop()

    def stop(self) -> None:
        """Sends nothing more either; does not wait for uploads under way."""
        self.stop_asking()
        self._upload.stop()
        self._uploading.stop()

    def can_send_more(self) -> bool:
        """Whether something waits for the server, and somebody may still send it."""
        return not self._cannot_send and any(not active.uploads.idle() for active in self._all())

    def join_asking(self, timeout_s: float) -> bool:
        """Waits for job requests that are under way; false when they take longer."""
        return self._asking.join(timeout_s)

    def _all(self) -> list[_ActiveSession]:
        with self._lock:
            return list(self._active.values())

    # Asking

    def _ask_round(self) -> float:
        now, wait_s = time.monotonic(), IDLE_S
        for active in self._all():
            session = active.session
            wanted = int(min(self._requester.wanted(session.key), active.limit.free_places()))
            # Without a PC too: a wrong password is told at once.
            if wanted <= 0 and session.state is not SessionState.SIGNED_OUT:
                continue
            rests_s = session.waits_until() - now
            if rests_s > 0:
                wait_s = min(wait_s, rests_s)
                continue
            # One request finds out whether there are frames; more follow when there are.
            self._asking.submit(
                session.key, wanted if session.is_flowing else 1, functools.partial(self._ask_once, active)
            )
        return wait_s

    def _ask_once(self, active: _ActiveSession) -> bool:
        session = active.session
        was_flowing = session.is_flowing
        if not session.ensure_signed_in():
            return False
        with active.limit.question() as may_ask:
            if not may_ask or not self._requester.ask_once(session):
                return False
        if not was_flowing:
            self._wakeups.asking.set()
        return True

    # Uploading

    def _upload_round(self) -> float:
        for active in self._all():
            waiting = active.uploads.pending()
            if waiting:
                self._uploading.submit(active.session.key, waiting, functools.partial(self._upload_once, active))
            elif active.session.state is SessionState.DISABLED:
                self._leave_disabled(active.session, active.uploads)
        return IDLE_S

    def _upload_once(self, active: _ActiveSession) -> bool:
        if not active.uploads.flush_once():
            if active.session.is_over:
                self._leave_disabled(active.session, active.uploads)
            return False
        self._wakeups.asking.set()
        return True

    def _leave_disabled(self, session: FarmSession, uploads: SessionUploads) -> None:
        """A disabled session is logged out once its last frame has been told to the server."""
        leases = [lease for lease in self._ledger.leases(*ACTIVE) if lease.session_key == session.key]
        if session.is_over:
            for lease in leases:
                self._events.lose(lease, "the server has disabled the session and takes nothing more")
        elif not leases and uploads.idle():
            session.log_out()
