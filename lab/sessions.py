"""Accounts and web sessions: who may sign in, and whose cookie this is.

A session's life::

    LIVE ──idle too long──▶ EXPIRED      its cookie signs in to 103, everything else to 202 or 304
    LIVE ──broken frames──▶ DISABLED     job requests get 203, uploads 304; heartbeats still count
    DISABLED ──taken back─▶ LIVE         one of those frames turned out to be right
    any  ──log-out───────▶ gone          its cookie is unknown from then on: 202 or 304

All sessions live in memory and are written through to the store; only the server's one database thread changes them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from coordinator.protocol.messages import Hardware

from .store import Store, accounts, web_sessions

#: ``seen_at`` reaches the disk at most this often; a crash forgets less than this of it.
SEEN_EVERY_S = 60
#: A session that ended this long ago is forgotten altogether: 103 becomes 202.
FORGET_AFTER_S = 7 * 86_400
#: A password that was right stays known for this long, so that not every request costs an scrypt.
TRUST_S = 300
#: 16 MiB and about 40 ms each (OWASP's third choice for scrypt doubles it; this is a server on a LAN).
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "dklen": 32, "maxmem": 64 * 1024 * 1024}
_MAX_PASSWORD = 1024
_MAX_TRUSTED = 256


class SessionState(StrEnum):
    """Where a web session stands."""

    LIVE = "live"
    EXPIRED = "expired"
    DISABLED = "disabled"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Somebody who may sign in."""

    login: str
    may_render: bool
    #: May submit projects and manage the server.
    is_owner: bool


@dataclass(frozen=True, kw_only=True)
class WebSession:
    """One client that signed in."""

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

    @property
    def platform(self) -> str:
        """For example ``linux/64bit``."""
        return f"{self.os}/{self.bits}"

    @property
    def is_alive(self) -> bool:
        """Not expired. A disabled session may still beat, download and report: its frames are being rendered."""
        return self.state is not SessionState.EXPIRED


class Accounts:
    """Passwords, and what each account may do. May be asked from any thread."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(32)
        self._trusted: dict[bytes, tuple[str, float]] = {}
        self._dummy_salt = secrets.token_bytes(16)
        with store.transaction() as db:
            rows = db.execute(select(accounts.c.login, accounts.c.may_render, accounts.c.is_owner)).mappings().all()
        self._accounts = {row["login"]: Account(**row) for row in rows}

    def put(self, login: str, password: str | None, *, may_render: bool = True, is_owner: bool = False) -> None:
        """Create an account or change it; without a password the old one stays. Sessions go on.

        Raises ``KeyError`` for a new account without a password.
        """
        if password is None and login not in self._accounts:
            raise KeyError(login)
        values = {"login": login, "may_render": may_render, "is_owner": is_owner}
        with self._store.transaction() as db:
            if password is None:
                db.execute(update(accounts).where(accounts.c.login == login).values(values))
            else:
                salt = secrets.token_bytes(16)
                values |= {"salt": salt, "password_hash": _hash(password, salt)}
                db.execute(upsert(accounts).values(values).on_conflict_do_update(index_elements=["login"], set_=values))
        with self._lock:
            self._accounts[login] = Account(login=login, may_render=may_render, is_owner=is_owner)
            self._trusted.clear()

    def get(self, login: str) -> Account | None:
        """The account, if there is one."""
        return self._accounts.get(login)

    def check(self, login: str, password: str) -> Account | None:
        """The account, if login and password are right. Takes the same time for an unknown login."""
        seal = hmac.digest(self._key, f"{len(login)}:{login}:{password}".encode(), "sha256")
        with self._lock:
            known = self._trusted.get(seal)
        if known is not None and known[1] > self._clock():
            return self.get(known[0])
        with self._store.transaction() as db:
            row = db.execute(select(accounts).where(accounts.c.login == login)).first()
        salt, expected = (row.salt, row.password_hash) if row else (self._dummy_salt, b"\0" * 32)
        if not hmac.compare_digest(_hash(password, salt), expected) or row is None:
            return None
        with self._lock:
            if len(self._trusted) >= _MAX_TRUSTED:
                self._trusted.clear()
            self._trusted[seal] = (login, self._clock() + TRUST_S)
        return self.get(login)


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass")[:_MAX_PASSWORD], salt=salt, **_SCRYPT)


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
        self._sessions = {row["id"]: WebSession(**{**row, "state": SessionState(row["state"])}) for row in rows}

    def open(self, login: str, version: str, hardware: Hardware) -> str:
        """Begin a session; the answer is its cookie."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        session = WebSession(
            id=_session_id(token), login=login, os=hardware.os, bits=hardware.bits, version=version,
            cpu=hardware.cpu_model_name, cores=hardware.cpu_cores, ram=hardware.ram,
            state=SessionState.LIVE, broken_frames=0, created_at=now, seen_at=now,
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
        live = [one for one in self._sessions.values() if one.state is SessionState.LIVE]
        for session in live:
            self._save(replace(session, state=SessionState.EXPIRED))
        return len(live)

    def known(self) -> list[WebSession]:
        """Sessions that are not over, the newest first."""
        oldest = self._clock() - self._idle_s
        alive = [s for s in self._sessions.values() if s.state is not SessionState.EXPIRED and s.seen_at >= oldest]
        return sorted(alive, key=lambda session: session.created_at, reverse=True)

    def _save(self, session: WebSession) -> WebSession:
        values = {"state": session.state, "broken_frames": session.broken_frames, "seen_at": session.seen_at}
        with self._store.transaction() as db:
            db.execute(update(web_sessions).where(web_sessions.c.id == session.id).values(values))
        self._sessions[session.id] = session
        self._written[session.id] = session.seen_at
        return session


def _session_id(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
