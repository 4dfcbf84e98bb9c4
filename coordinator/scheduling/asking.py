"""Free places → offers → GRANTED leases.

Any number of threads ask at the same time, each for a place that it has reserved. What places the leases on nodes is
:mod:`coordinator.scheduling.placing`; the two meet in the ledger only.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from coordinator.jobs.blocks import JobBlock
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.errors import LedgerError
from coordinator.leases.lease import Lease
from coordinator.leases.ledger import Ledger
from coordinator.runtime.wakeups import Wakeups
from coordinator.upstream.session import FarmSession
from sheepfold.protocol.messages import ComputeMethod, ErrorReport, JobOffer

from .backpressure import InFlightGauge
from .matching import Capacity
from .node_index import NodeIndex

log = logging.getLogger(__name__)

#: Frames that no node here can take, before nothing more is asked for: more requests would only bring more of them.
STUCK_AT_MOST = 4


class StuckFrames:
    """Granted frames that no node here can take; they keep no slot from other frames.

    Counted by session and kind, as the last look of the placing thread found them; any thread may read.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, bool]] = Counter()

    def replace(self, counts: Counter[tuple[str, bool]]) -> None:
        """What this look found: session key, and whether it is for a GPU → leases."""
        self._counts = counts

    def ignored(self, session_key: str, *, use_gpu: bool) -> int:
        """So many granted frames of the session keep no slot from others; never more than :data:`STUCK_AT_MOST`."""
        return min(self._counts[session_key, use_gpu], STUCK_AT_MOST)


class BlockedFrames(Protocol):
    """What is not rendered here (:class:`coordinator.jobs.control.JobControl`)."""

    def block_of(self, lease: Lease, /) -> JobBlock | None: ...
    def turn_away(self, lease: Lease, block: JobBlock, /) -> None: ...


class HeldArchives(Protocol):
    """The archives that the server is told of (:class:`coordinator.archives.store.ArchiveStore`)."""

    def held(self) -> list[str]: ...
    def delete(self, md5: str, /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RequestServices:
    """What :class:`FrameRequester` reads and calls, from the ledger to the wakeups."""

    ledger: Ledger
    counters: LeaseCounters
    nodes: NodeIndex
    gauge: InFlightGauge
    archives: HeldArchives
    blocked: BlockedFrames
    stuck: StuckFrames
    wakeups: Wakeups


class FrameRequester:
    """Asks the server for as many frames as there are free places. Thread-safe."""

    def __init__(self, services: RequestServices) -> None:
        self._services = services
        self._ledger, self._blocked = services.ledger, services.blocked
        self._lock = threading.Lock()
        #: Session key → job requests under way.
        self._asking: Counter[str] = Counter()
        #: Frames that the server still has for us, by its last answer; ``None``: it does not say.
        self.frames_remaining: int | None = None
        #: The last frame could not be written into the ledger.
        self._record_failed = False

    def wanted(self, session_key: str) -> int:
        """Places that are free once every frame we hold and every job request under way has taken one."""
        return self._places_left(session_key).places - self._asking[session_key]

    def ask_once(self, session: FarmSession) -> bool:
        """Asks for one frame if a place is free for it; true: the server gave one that is wanted, ask again at once."""
        archives = self._services.archives
        with self._reserved(session.key) as method:
            if method is None:
                return False
            if self._record_failed:
                # A frame that cannot be entered must not be asked for; this raises until the disk takes it again.
                self._ledger.check_writable()
                self._record_failed = False
            answer = session.request_job(method, archives.held())
            if answer is None:
                return False
            self.frames_remaining = answer.frames_remaining
            is_wanted = answer.offer is not None and self._grant(answer.offer, session)
        for md5 in answer.delete_archives:
            archives.delete(md5)
        return is_wanted

    @contextmanager
    def _reserved(self, session_key: str) -> Generator[ComputeMethod | None]:
        """Reserves a place for the block; gives what to ask for, or ``None`` when no place is left."""
        with self._lock:
            left = self._places_left(session_key)
            # A request under way may bring a CPU or a GPU frame; either takes one place.
            method = left.method() if left.places > self._asking[session_key] else None
            self._asking[session_key] += method is not None
        try:
            yield method
        finally:
            with self._lock:
                self._asking[session_key] -= method is not None

    def _places_left(self, session_key: str) -> Capacity:
        """Places that are free once every frame we hold has taken one; frames that no node can take need none."""
        held, stuck = self._services.counters.of(session_key), self._services.stuck
        if held.synchronous or self._services.gauge.is_high:
            return Capacity()
        return self._services.nodes.capacity(session_key).without(
            cpu=max(0, held.granted_cpu - stuck.ignored(session_key, use_gpu=False)),
            gpu=max(0, held.granted_gpu - stuck.ignored(session_key, use_gpu=True)),
        )

    def _grant(self, offer: JobOffer, session: FarmSession) -> bool:
        """Enters the frame; false: it is blocked and goes back."""
        try:
            lease = self._ledger.grant(offer, session.key)
        except LedgerError as error:
            # The frame is ours at the server and nowhere else: give it back before anything else is asked for.
            self._record_failed = True
            report = ErrorReport(job=offer.job_id, frame=offer.frame, extras=offer.extras)
            session.client.report_error(report, f"the farm cannot keep its record: {error}")
            raise
        # Looked up after the frame is in the ledger: whoever blocks its job from now on finds it there.
        if block := self._blocked.block_of(lease):
            # The wait is set first, because the end of a lease wakes the asking thread.
            session.frame_was_unwanted(f"the server offers what is blocked here: {block.label}")
            self._blocked.turn_away(lease, block)
            return False
        session.frame_was_wanted()
        log.info("%s granted", lease.label)
        self._services.wakeups.placing.set()
        return True
