"""When a lease ends by itself.

A heartbeat that names its frame extends that lease, one that names none extends every lease of its session. Clients
since 2019-09 pass over ``max-period``: they beat 15 minutes after their *last request*, whatever that was, so a frame
may go unnamed for longer than a lease while its session asks, downloads and uploads. Hence any request of a session
is a sign of life for its leases, once: a lease that is overdue is spared for one more lease's time as long as its
session was heard of within that time. Not for ever: an offer whose answer got lost is known to no client, and its
session may go on for days. And not for clients that keep to ``max-period``, which those of the specification's
generation do: there a lease nobody beats for is over in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from . import frame_queries as sql

#: The first generation of clients of which some pass over ``max-period``; a version's first number says which it is.
FIRST_THAT_PASSES_OVER = 5


def keeps_to_max_period(version: str) -> bool:
    """Whether a client of this version beats as often as it is told: ``3.3.1762`` does, ``6.20294.0`` does not."""
    generation = version.partition(".")[0]
    return generation.isascii() and generation.isdigit() and int(generation[:9]) < FIRST_THAT_PASSES_OVER


@dataclass(frozen=True, kw_only=True)
class LeaseExpiry:
    """The rule, with its times in seconds."""

    #: How long a lease lives without a sign of life.
    lease_s: float
    #: When a session was heard of last, seconds since 1970; 0 for one that is over, or whose client keeps to
    #: ``max-period``.
    seen_at: Callable[[str], float]

    def end_overdue(self, db: Connection, now: float) -> set[int]:
        """End the leases nobody shows a sign of life for; the answer is the projects they are of."""
        overdue = db.execute(sql.OVERDUE, {"now": now}).all()
        ended = [row for row in overdue if not self._is_spared(row.session_id, row.expires_at, now)]
        if ended:
            db.execute(sql.EXPIRE, [{"project": row.project_id, "frame": row.number} for row in ended])
        return {row.project_id for row in ended}

    def _is_spared(self, session_id: str | None, expires_at: float, now: float) -> bool:
        if session_id is None or expires_at + self.lease_s < now:
            return False
        return self.seen_at(session_id) + self.lease_s >= now
