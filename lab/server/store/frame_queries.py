"""The statements on frames and grants, compiled once. ``frames.py`` says when each is used.

Parameters: ``project`` and ``frame`` name a frame, ``who`` an account, ``session`` a web session (``former`` the one
before it), ``now`` and ``until`` are seconds since 1970. (SQLAlchemy keeps the names of columns for itself, hence
``who`` and not ``login``.)
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.sqlite import insert as upsert

from sheepfold.protocol.messages import ComputeMethod

from .database import frames, grants
from .projects import SUITS

_THIS = (frames.c.project_id == bindparam("project")) & (frames.c.number == bindparam("frame"))
_LEASED_NOW = frames.c.state == "leased"
_NO_LEASE = {"session_id": None, "expires_at": None}

ONE = select(frames).where(_THIS)
# CROSS JOIN fixes the order of the loops for SQLite: projects by age, then one step into the index of their frames.
# Without it, a planner that has no statistics may sort every waiting frame.
NEXT = text(
    "SELECT f.project_id, f.number FROM projects p CROSS JOIN frames f ON f.project_id = p.id "
    "WHERE p.state = 'active' AND f.state = 'waiting' AND p.compute IN (:one, :other, :third) "
    "ORDER BY p.id, f.number LIMIT 1"
)
#: The three of ``NEXT``; a client that takes less fills up with what it takes.
METHODS: dict[ComputeMethod, dict[str, Any]] = {
    method: dict(zip(("one", "other", "third"), (suits * 2)[:3], strict=True)) for method, suits in SUITS.items()
}
LEASE = (
    update(frames)
    .where(_THIS)
    .values(state="leased", login=bindparam("who"), session_id=bindparam("session"))
    .values(granted_at=bindparam("now"), expires_at=bindparam("until"))
)
EXTEND = (
    update(frames)
    .where(_THIS, _LEASED_NOW, frames.c.login == bindparam("who"))
    .values(session_id=bindparam("session"), expires_at=bindparam("until"))
)
EXTEND_ALL = (
    update(frames).where(_LEASED_NOW, frames.c.session_id == bindparam("session")).values(expires_at=bindparam("until"))
)
BEGIN_ANEW = update(frames).where(_LEASED_NOW).values(expires_at=bindparam("until"))
TAKE_OVER = (
    update(frames)
    .where(_LEASED_NOW, frames.c.session_id == bindparam("former"))
    .values(session_id=bindparam("session"))
)
OVERDUE = select(frames.c.project_id, frames.c.number, frames.c.session_id, frames.c.expires_at).where(
    _LEASED_NOW, frames.c.expires_at < bindparam("now")
)
EXPIRE = update(frames).where(_THIS, _LEASED_NOW).values(state="waiting", expiries=frames.c.expiries + 1, **_NO_LEASE)
RELEASE = (
    update(frames)
    .where(_LEASED_NOW, frames.c.session_id == bindparam("session"))
    .values(state="waiting", **_NO_LEASE)
    .returning(frames.c.project_id)
)
ACCEPT = (
    update(frames)
    .where(_THIS)
    .values(state="accepted", login=bindparam("who"), accepted_at=bindparam("now"), **_NO_LEASE)
    .values(render_s=bindparam("seconds"), memory_kb=bindparam("memory"), cores=bindparam("threads"))
    .values(suffix=bindparam("ending"), bytes=bindparam("size"), black=bindparam("empty"))
)
COUNT_REFUSAL = update(frames).where(_THIS).values(refusals=frames.c.refusals + 1)
END_LEASE = (
    update(frames).where(_THIS, _LEASED_NOW, frames.c.login == bindparam("who")).values(state="waiting", **_NO_LEASE)
)
ERROR = update(frames).where(_THIS).values(state=bindparam("then"), errors=frames.c.errors + 1, **_NO_LEASE)
GIVE_UP_ALL = (
    update(frames)
    .where(frames.c.project_id == bindparam("project"), frames.c.state.in_(("waiting", "leased")))
    .values(state="failed", **_NO_LEASE)
    .returning(frames.c.number)
)
STATES_OF = (
    select(frames.c.state, func.count().label("times"))
    .where(frames.c.project_id == bindparam("project"))
    .group_by(frames.c.state)
)
COUNT_AGAIN = update(frames).where(_THIS).values(again=frames.c.again + 1)
NOTE_GRANT = (
    upsert(grants)
    .values(times=1)
    .on_conflict_do_update(index_elements=["project_id", "number", "login"], set_={"times": grants.c.times + 1})
)
GRANTED_TO = select(grants.c.times).where(
    grants.c.project_id == bindparam("project"),
    grants.c.number == bindparam("frame"),
    grants.c.login == bindparam("who"),
)
HELD_BY_SESSION = select(func.count()).where(_LEASED_NOW, frames.c.session_id == bindparam("session"))
LEASED = select(frames).where(_LEASED_NOW).order_by(frames.c.granted_at)
COUNTS = select(frames.c.project_id, frames.c.state, func.count().label("times")).group_by(
    frames.c.project_id, frames.c.state
)
TOTALS = select(
    func.count().filter(frames.c.state == "accepted").label("accepted"),
    func.sum(frames.c.again).label("again"),
    func.sum(frames.c.refusals).label("refusals"),
    func.sum(frames.c.errors).label("errors"),
    func.sum(frames.c.expiries).label("expiries"),
)
