"""Web sessions: whose cookie this is, and what its client may still do.

A session's life::

    LIVE ──idle too long──▶ EXPIRED      202 or 304; a sign-in opens a new one, which takes its frames over
    LIVE ──broken frames──▶ DISABLED     job requests get 203, uploads 304; heartbeats still count
    DISABLED ──taken back─▶ LIVE         one of those frames turned out to be right
    any  ──log-out───────▶ gone          its cookie is unknown from then on: 202 or 304

All sessions live in memory and are written through to the store; only the server's one database thread changes them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, insert, select, update

from sheepfold.protocol.session_messages import Hardware

from .database import Store, web_sessions
from .lease_expiry import keeps_to_max_period

#: ``seen_at`` reaches the disk at most this often; a crash forgets less than this of it.
SEEN_EVERY_S = 60
#: A session that ended this long ago is forgotten altogether.
FORGET_AFTER_S = 7 * 86_400


class SessionState(StrEnum):
    """Where a web session stands; only a live one gets frames."""

    LIVE = "live"
    EXPIRED = "expired"
    DISABLED = "disabled"


@dataclass(frozen=True, kw_only=True)
class WebSession:
    """One client that signed in, with what it said of itself."""

    #: SHA-256 of its cookie.
    id: str
    login: str
    os: str
    bits: str
    version: str
    cpu: str
    cores: int
    #: Bytes.
    ram: int
    state: SessionState
    broken_frames: int
    created_at: float
    seen_at: float
    #: Test frames this session has to render before anything else, and how many of them are done.
    tests_wanted: int
    tests_done: int
    #: Seconds the client says its test frames took, all together.
    test_render_s: int

    @property
    def platform(self) -> str:
        """The key of its renderer archive, for example ``linux/64bit``."""
        return f"{self.os}/{self.bits}"

    @property
    def is_alive(self) -> bool:
        """Not expired. A disabled session may still beat, download and report: its frames are being rendered."""
        return self.state is not SessionState.EXPIRED


class Sessions:
    """The web sessions of a server."""

    def __init__(self, store: Store, *, idle_s: float, max_broken: int, clock: Callable[[], float]) -> None:
        self._store = store
        self._idle_s = idle_s
        self._max_broken = max_broken
        self._clock = clock
        self._written: dict[str, float] = {}
        with store.transaction() as db:
            db.execute(delete(web_sessions).where(web_sessions.c.seen_at < clock() - idle_s - FORGET_AFTER_S))
            rows = db.execute(select(web_sessions)).mappings().all()
        # The machine's clock may have been set back while the server was down: nobody was seen in the future.
        now = clock()
        self._sessions = {row["id"]: _web_session(dict(row), now) for row in rows}

    def open(self, login: str, version: str, hardware: Hardware, *, tests_wanted: int = 0) -> str:
        """Begin a session; the answer is its cookie."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        session = WebSession(
            id=_session_id(token), login=login, os=hardware.os, bits=hardware.bits, version=version,
            cpu=hardware.cpu_model_name, cores=hardware.cpu_cores, ram=hardware.ram,
            state=SessionState.LIVE, broken_frames=0, created_at=now, seen_at=now,
            tests_wanted=tests_wanted, tests_done=0, test_render_s=0,
        )  # fmt: skip
        with self._store.transaction() as db:
            db.execute(insert(web_sessions).values(**vars(session)))
        self._sessions[session.id] = session
        self._written[session.id] = now
        return token

    def find(self, token: str | None) -> WebSession | None:
        """The session of a cookie in whatever state, or ``None`` for an unknown one. Counts as being seen."""
        session = self._sessions.get(_session_id(token)) if token else None
        if session is None or session.state is SessionState.EXPIRED:
            return session
        now = self._clock()
        if session.seen_at + self._idle_s < now:
            return self._save(replace(session, state=SessionState.EXPIRED))
        session = replace(session, seen_at=now)
        self._sessions[session.id] = session
        if now - self._written.get(session.id, 0) > SEEN_EVERY_S:
            self._save(session)
        return session

    def note_broken_frame(self, session: WebSession) -> WebSession:
        """One more broken frame; too many disable the session."""
        current = self._sessions.get(session.id, session)
        broken = current.broken_frames + 1
        state = SessionState.DISABLED if broken >= self._max_broken else current.state
        return self._save(replace(current, broken_frames=broken, state=state))

    def note_test_frame(self, session: WebSession, render_s: int) -> WebSession:
        """One more test frame is done; the session keeps how long it took."""
        current = self._sessions.get(session.id, session)
        done, seconds = current.tests_done + 1, current.test_render_s + render_s
        return self._save(replace(current, tests_done=done, test_render_s=seconds))

    def seen_at(self, session_id: str) -> float:
        """When the session was heard of last; 0 for one that is over, or whose client beats as often as it is told."""
        session = self._sessions.get(session_id)
        if session is None or not session.is_alive or keeps_to_max_period(session.version):
            return 0.0
        return session.seen_at

    def take_back_broken_frame(self, session_id: str) -> None:
        """A frame that was counted as broken was none; a session that it disabled is live again."""
        current = self._sessions.get(session_id)
        if current is None or current.broken_frames == 0:
            return
        broken = current.broken_frames - 1
        is_live_again = current.state is SessionState.DISABLED and broken < self._max_broken
        state = SessionState.LIVE if is_live_again else current.state
        self._save(replace(current, broken_frames=broken, state=state))

    def close(self, session: WebSession) -> None:
        """Log-out: the cookie is unknown from now on."""
        with self._store.transaction() as db:
            db.execute(delete(web_sessions).where(web_sessions.c.id == session.id))
        self._sessions.pop(session.id, None)
        self._written.pop(session.id, None)

    def expire_all(self) -> int:
        """Expire every live session, as if all had been idle for too long; the answer is how many that were."""
        live = [session for session in self._sessions.values() if session.state is SessionState.LIVE]
        for session in live:
            self._save(replace(session, state=SessionState.EXPIRED))
        return len(live)

    def count(self) -> int:
        """How many sessions were heard of lately."""
        oldest = self._clock() - self._idle_s
        return sum(s.state is SessionState.LIVE and s.seen_at >= oldest for s in self._sessions.values())

    def seen_within(self, seconds: float) -> int:
        """How many live sessions were heard of in the last so many seconds."""
        since = self._clock() - seconds
        return sum(
            session.state is SessionState.LIVE and session.seen_at >= since for session in self._sessions.values()
        )

    def known(self) -> list[WebSession]:
        """Sessions that are not over, the newest first."""
        oldest = self._clock() - self._idle_s
        alive = [s for s in self._sessions.values() if s.state is not SessionState.EXPIRED and s.seen_at >= oldest]
        return sorted(alive, key=lambda session: session.created_at, reverse=True)

    def _save(self, session: WebSession) -> WebSession:
        values = {"state": session.state, "broken_frames": session.broken_frames, "seen_at": session.seen_at}
        values |= {"tests_done": session.tests_done, "test_render_s": session.test_render_s}
        with self._store.transaction() as db:
            db.execute(update(web_sessions).where(web_sessions.c.id == session.id).values(values))
        self._sessions[session.id] = session
        self._written[session.id] = session.seen_at
        return session


def _session_id(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _web_session(row: Mapping[str, Any], now: float) -> WebSession:
    values: dict[str, Any] = {**row, "state": SessionState(row["state"]), "seen_at": min(row["seen_at"], now)}
    return WebSession(**values)
