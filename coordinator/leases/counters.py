"""What is counted about leases, step by step as the ledger writes them. Pure: no I/O, no clock.

Counting each step is cheaper than reading thousands of leases again for every request.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, replace

from .lease import ACTIVE, Lease, LeaseState

#: Jobs whose memory is remembered; a farm works on a few at a time.
MAX_JOBS = 1000
_NEEDS_ARCHIVES = (LeaseState.GRANTED, LeaseState.ORDERED, LeaseState.RENDERING)


@dataclass(frozen=True, kw_only=True)
class SessionCounts:
    """The active leases of one server session."""

    #: Frames that wait for a node, by what they are rendered with.
    granted_cpu: int = 0
    granted_gpu: int = 0
    #: Pictures that wait for the server.
    delivered: int = 0
    #: Frames that must be uploaded before the session asks for another.
    synchronous: int = 0
    active: int = 0


class LeaseCounters:
    """Counts along with the ledger (:meth:`coordinator.leases.ledger.Ledger.watch`). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: defaultdict[str, SessionCounts] = defaultdict(SessionCounts)
        self._needed: Counter[str] = Counter()
        #: Job and revision → the largest peak of a frame so far, kB; the one heard of last stands last.
        self._peaks: OrderedDict[tuple[str, str], int] = OrderedDict()

    def follow(self, before: Lease | None, after: Lease) -> None:
        """Counts a step that the ledger has written; ``before`` is ``None`` for a new lease."""
        with self._lock:
            if before is not None:
                self._add(before, -1)
            self._add(after, +1)
            if after.state is LeaseState.DELIVERED and after.delivery is not None:
                self._learn(after, after.delivery.memory_kb)

    def of(self, session_key: str) -> SessionCounts:
        """All zero for a session that was never heard of."""
        with self._lock:
            return self._held.get(session_key, SessionCounts())

    def needed_archives(self) -> set[str]:
        """MD5 sums that live leases need."""
        with self._lock:
            return set(self._needed)

    def peak_kb(self, job_id: str, revision: str) -> int:
        """The most memory that a frame of the job took so far, kB; 0 before the first has come."""
        with self._lock:
            return self._peaks.get((job_id, revision), 0)

    def _add(self, lease: Lease, change: int) -> None:
        if lease.state not in ACTIVE:
            return
        held, gpu = self._held[lease.session_key], lease.offer.use_gpu
        granted = change * (lease.state is LeaseState.GRANTED)
        held = replace(
            held,
            granted_cpu=held.granted_cpu + granted * (not gpu),
            granted_gpu=held.granted_gpu + granted * gpu,
            delivered=held.delivered + change * (lease.state is LeaseState.DELIVERED),
            synchronous=held.synchronous + change * lease.offer.synchronous_upload,
            active=held.active + change,
        )
        self._held[lease.session_key] = held
        if not held.active:
            del self._held[lease.session_key]
        if lease.state in _NEEDS_ARCHIVES:
            for md5 in (*lease.offer.scene_md5s, lease.offer.renderer.md5):
                self._needed[md5] += change
                if not self._needed[md5]:
                    del self._needed[md5]

    def _learn(self, lease: Lease, memory_kb: int) -> None:
        job = (lease.offer.job_id, lease.offer.revision)
        self._peaks[job] = max(memory_kb, self._peaks.pop(job, 0))
        if len(self._peaks) > MAX_JOBS:
            self._peaks.popitem(last=False)
