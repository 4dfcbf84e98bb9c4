"""Keeps every lease alive at the server: one beat per lease, the first one an interval after the grant.

Each beat tells what later generations want to know: how long the frame has been rendered, how long it will take, and
that nobody has paused it. The session's dialect sends of that what its generation knows.

A beat that got no answer, or one that is neither yes nor no, does not count and is tried again soon. A 400 ends the
lease and kills its renderer.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from coordinator.leases.errors import LeaseError
from coordinator.leases.lease import ACTIVE, Lease, LeaseState
from coordinator.leases.ledger import Ledger
from sheepfold.protocol.messages import Beat, BeatAnswer
from sheepfold.protocol.session_messages import Endpoints
from sheepfold.protocol.status import BeatStatus, JobStatus, explain

from .errors import ServerSilent

log = logging.getLogger(__name__)

#: Observed clients beat every 900 s where the server gives no ``max-period``.
DEFAULT_MAX_PERIOD_S = 900
#: A beat that failed is tried again after this share of the interval: three more chances before the server gives up.
RETRY_SHARE = 0.2
#: Slow answers must not delay the beats of other leases.
BEATS_AT_ONCE = 4


class BeatClient(Protocol):
    """The only exchange that heartbeats need."""

    @property
    def endpoints(self) -> Endpoints | None: ...
    def beat(self, beat: Beat) -> BeatAnswer: ...


class BeatSession(Protocol):
    """What heartbeats need of a session."""

    @property
    def client(self) -> BeatClient: ...
    def ensure_signed_in(self) -> bool: ...
    def session_died(self) -> None: ...


def _says_nothing(_lease: Lease) -> float | None:
    """The time left is unknown."""


class Heartbeat:
    """Beats for the active leases of every session.

    ``remaining_s`` is what the node says of a lease it renders: seconds that are left, ``None`` while it does not know.
    """

    def __init__(
        self,
        ledger: Ledger,
        sessions: Mapping[str, BeatSession],
        stop_lease: Callable[[Lease, str], None],
        *,
        at_most_every_s: float,
        remaining_s: Callable[[Lease], float | None] = _says_nothing,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._sessions, self._stop_lease = ledger, sessions, stop_lease
        self._at_most_every_s, self._remaining_s = at_most_every_s, remaining_s
        self._clock, self._wall_clock = clock, wall_clock
        #: Lease id → when its next beat is due (the clock's seconds).
        self._due: dict[str, float] = {}
        #: Delivered leases that the server has ended.
        self._needless: set[str] = set()
        self._first_round = True
        self._pool = ThreadPoolExecutor(BEATS_AT_ONCE, thread_name_prefix="heartbeat")
        self._closed = False
        self.missed = self.answered = 0

    def interval_s(self, endpoints: Endpoints | None) -> float:
        """Seconds between two beats of a lease: the setting, and at most half of what the server allows."""
        max_period_s = (endpoints.max_period_s if endpoints else None) or DEFAULT_MAX_PERIOD_S
        return min(self._at_most_every_s, max_period_s / 2)

    def beat_once(self) -> float:
        """Beats every lease that is due; returns seconds until the next one is."""
        now = self._clock()
        leases = {lease.id: lease for lease in self._ledger.leases(*ACTIVE)}
        self._needless &= leases.keys()
        for id_ in self._needless:
            del leases[id_]
        self._due = {id_: due for id_, due in self._due.items() if id_ in leases}
        for lease in leases.values():
            if lease.id not in self._due:
                # After a restart nobody knows when the last beat was: beat at once.
                self._due[lease.id] = now if self._first_round else now + self._interval_of(lease)
        self._first_round = False
        due = [leases[id_] for id_, at in self._due.items() if at <= now]
        for lease, answered in zip(due, self._pool.map(self._beat, due), strict=True):
            self.answered += answered
            wait_s = self._interval_of(lease) * (1 if answered else RETRY_SHARE)
            self._due[lease.id] = self._clock() + wait_s
        return max(0.0, min(self._due.values(), default=self._clock() + 1) - self._clock())

    def close(self) -> None:
        """No more beats; waits for no answer."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _interval_of(self, lease: Lease) -> float:
        session = self._sessions.get(lease.session_key)
        return self.interval_s(session.client.endpoints if session else None)

    def _beat(self, lease: Lease) -> bool:
        session = self._sessions.get(lease.session_key)
        if session is None:
            return False
        try:
            if self._closed or not session.ensure_signed_in():
                return False
            answer = session.client.beat(self._beat_of(lease))
        except ServerSilent as error:
            self.missed += 1
            log.warning("the server did not answer the heartbeat of %s, it is sent again soon: %s", lease.label, error)
            return False
        if answer.status == BeatStatus.STOP:
            self._stop(lease, explain(answer.status))
        elif answer.status == JobStatus.SESSION_DEAD:
            session.session_died()
            return False
        elif answer.status != BeatStatus.OK:
            log.warning("the heartbeat of %s is sent again: %s", lease.label, explain(answer.status))
            return False
        return True

    def _beat_of(self, lease: Lease) -> Beat:
        rendered_s, remaining_s = 0.0, None
        if lease.state is LeaseState.RENDERING:
            # The ledger's clock may have been set back since.
            rendered_s, remaining_s = max(0.0, self._wall_clock() - lease.changed_at), self._remaining_s(lease)
        elif lease.delivery is not None:
            rendered_s, remaining_s = lease.delivery.render_s, 0.0
        return Beat(
            job=lease.offer.job_id,
            frame=lease.offer.frame,
            extras=lease.offer.extras,
            render_time_s=math.ceil(rendered_s),
            remaining_s=None if remaining_s is None else math.ceil(remaining_s),
            paused=False,
        )

    def _stop(self, lease: Lease, reason: str) -> None:
        """Ends the lease; but a picture that is ready is uploaded, and the answer to that says what became of it."""
        try:
            lease = self._ledger.get(lease.id)
        except LeaseError:
            return
        if lease.state is LeaseState.DELIVERED:
            self._needless.add(lease.id)
        else:
            self._stop_lease(lease, reason)
