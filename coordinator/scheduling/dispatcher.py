"""Free places → offers → leases → orders in the nodes' queues.

Two halves that meet in the ledger only: :meth:`Dispatcher.ask_once` turns free places into GRANTED leases,
:meth:`Dispatcher.place_once` turns GRANTED leases whose archives are in the depot into ORDERED ones. A lease that comes
back (node lost, attempt failed) is GRANTED again and takes the second half once more.

Any number of threads ask at the same time, each for a place that it has reserved; one thread places.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.archives.downloads import Downloads
from coordinator.archives.store import ArchiveError, ArchiveStore
from coordinator.delivery.claims import Claims
from coordinator.jobs.blocks import JobBlock
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.errors import LedgerError
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState, unchanged_s
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_batch import Transition
from coordinator.nodes.registry import BrokerUnreachable
from coordinator.upstream.client import ArchiveGone
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_pool import SessionPool
from sheepfold.backoff import Backoff
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.orders import MAX_ORDER_BYTES, RenderOrder, SignedOrder, sign_order
from sheepfold.contract.presence import Presence
from sheepfold.protocol.messages import ArchiveRequest, ComputeMethod, ErrorReport, JobOffer

from .backpressure import InFlightGauge
from .matching import PendingLease, Room
from .node_index import NodeIndex
from .requirements import Archives, RequirementsBuilder, RequirementsCache

log = logging.getLogger(__name__)

#: A frame that no PC here can take is given back to the server after this long (seconds); somebody else may have one.
NOBODY_AFTER_S = 900
#: A frame that measures a PC that is not here stops its session from asking: long enough for one that joins again.
MEASURED_PC_GONE_S = 60
#: Looking for downloads that nobody wants costs as much as a few frames.
FORGET_EVERY_S = 60.0
#: Frames in hand that no PC here can take, before nothing more is asked for: asking on would only hoard.
STUCK_AT_MOST = 4


class SendOrder(Protocol):
    """Puts a signed order into a node's queue; raises where the broker does not take it."""

    def __call__(self, signed: SignedOrder, order: RenderOrder, node_name: str, /) -> None: ...


class BlockedFrames(Protocol):
    """What is not rendered here (:class:`coordinator.jobs.control.JobControl`)."""

    def block_of(self, lease: Lease, /) -> JobBlock | None: ...
    def turn_away(self, lease: Lease, block: JobBlock, /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A lease, the node it goes to, and its archives."""

    lease: Lease
    node: Presence
    archives: Archives


class Dispatcher:
    """Keeps the slots of the LAN busy."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        tally: LeaseCounters,
        floor: NodeIndex,
        pressure: InFlightGauge,
        account: SessionPool,
        archives: ArchiveStore,
        claims: Claims,
        node: Callable[[str], Presence | None],
        send_order: SendOrder,
        order_key: Ed25519PrivateKey,
        backoff: Callable[[], Backoff],
        render_limit_s: int | None,
        needs: RequirementsBuilder,
        troubled_s: Callable[[Lease], float] = lambda _lease: 0.0,
        why_nobody: Callable[[], str] = str,
        blocked: BlockedFrames,
        ledger_clock: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._tally, self._floor, self._account = ledger, tally, floor, account
        self._pressure = pressure
        self._archives, self._claims, self._node = archives, claims, node
        self._send_order, self._order_key = send_order, order_key
        self._render_limit_s, self._needs = render_limit_s, needs
        #: Seconds since a lease first failed through its PC's own trouble, and what keeps PCs from taking frames.
        self._troubled_s, self._why_nobody = troubled_s, why_nobody
        self._fetches = Downloads(archives, backoff, clock)
        self._blocked = blocked
        self._clock, self._ledger_clock, self._began_at = clock, ledger_clock, ledger_clock()
        #: When downloads that nobody wants any more are forgotten next (the clock's seconds).
        self._forget_at = -math.inf
        self._lock = threading.Lock()
        #: Session key → questions under way.
        self._asking: Counter[str] = Counter()
        #: Session key, and whether it is for a GPU → leases that no node here can take, from the last look.
        self._stuck: Counter[tuple[str, bool]] = Counter()
        #: Set whenever there may be something to place.
        self.wake_placing = threading.Event()
        self.frames_remaining: int | None = None
        #: The last frame could not be written down.
        self._record_failed = False

    # Asking

    def wanted(self, session_key: str) -> int:
        """Places that no frame in hand, and no question under way, is meant for."""
        return self._places_left(session_key).places - self._asking[session_key]

    def ask_once(self, session: FarmSession) -> bool:
        """Asks for one frame if a place is free for it; true: the server gave one that is wanted, ask again at once."""
        with self._reserved(session.key) as method:
            if method is None:
                return False
            if self._record_failed:
                # A frame that cannot be entered must not be asked for; this raises until the disk takes it again.
                self._ledger.check_writable()
                self._record_failed = False
            answer = session.ask(method, self._archives.held())
            if answer is None:
                return False
            self.frames_remaining = answer.frames_remaining
            is_wanted = answer.offer is not None and self._grant(answer.offer, session)
        for md5 in answer.delete_archives:
            self._archives.delete(md5)
        return is_wanted

    @contextmanager
    def _reserved(self, session_key: str) -> Generator[ComputeMethod | None]:
        """Keeps a place for one answer; what to ask for, or ``None`` when no place is left."""
        with self._lock:
            left = self._places_left(session_key)
            # A question under way may bring either kind; what it takes is a place.
            method = left.method() if left.places > self._asking[session_key] else None
            self._asking[session_key] += method is not None
        try:
            yield method
        finally:
            with self._lock:
                self._asking[session_key] -= method is not None

    def _places_left(self, session_key: str) -> Room:
        """Places that no frame in hand is meant for; frames that nobody here would take keep none from others."""
        held = self._tally.of(session_key)
        if held.synchronous or self._pressure.is_high:
            return Room()
        stuck_cpu, stuck_gpu = (min(self._stuck[session_key, gpu], STUCK_AT_MOST) for gpu in (False, True))
        return self._floor.capacity(session_key).without(
            cpu=max(0, held.granted_cpu - stuck_cpu), gpu=max(0, held.granted_gpu - stuck_gpu)
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
            # First the wait: the end of a lease wakes whoever asks.
            session.frame_was_unwanted(f"the server offers what is blocked here: {block.label}")
            self._blocked.turn_away(lease, block)
            return False
        session.frame_was_wanted()
        log.info("%s granted", lease.label)
        self.wake_placing.set()
        return True

    # Placing

    def place_once(self) -> int:
        """Orders every GRANTED lease that has its archives and a node; returns how many.

        Leases are matched one by one and entered together: one transaction, however many places there are.
        """
        self._forget_now_and_then()
        now, alike = self._ledger_clock(), RequirementsCache(self._archives_of, self._needs.of)
        archives, wishes = {}, []
        for lease in self._ledger.leases(LeaseState.GRANTED):
            if block := self._blocked.block_of(lease):
                self._blocked.turn_away(lease, block)
                continue
            if found := alike.archives_of(lease):
                archives[lease.id] = found
                wishes.append(
                    PendingLease(
                        lease=lease, need=alike.need_of(lease), waited_s=unchanged_s(lease, now, self._began_at)
                    )
                )
        # A frame that PCs had trouble with waits behind the others: should it be the trouble itself, they are rendered.
        wishes.sort(key=lambda wish: self._troubled_s(wish.lease) > 0)
        matches = self._floor.match(wishes)
        plans = [
            _Plan(lease=one.lease, node=node, archives=archives[one.lease.id])
            for one in wishes
            if (node := self._node(matches.get(one.lease.id, "")))
        ]
        self._look_after([one for one in wishes if one.lease.id not in matches])
        try:
            return self._order_all(plans)
        finally:
            for one in wishes:
                self._floor.release(one.lease)

    def close(self) -> None:
        """Ends downloads."""
        self._fetches.close()

    def _forget_now_and_then(self) -> None:
        """Drops what is known of downloads that no live lease wants; in this thread, which alone uses them."""
        if self._clock() >= self._forget_at:
            self._forget_at = self._clock() + FORGET_EVERY_S
            self._fetches.forget_others(self._tally.needed_archives())

    def _archives_of(self, lease: Lease) -> Archives | None:
        offer = lease.offer
        session = self._account.get(lease.session_key)
        if session is None:
            return None
        wanted_renderer = ArchiveRequest(type="binary", job=offer.job_id)
        asking = (session, lease.id, self.wake_placing.set)
        try:
            # Both are asked for before either is looked at, so that they travel side by side.
            scene = self._fetches.all_ready(_scene_requests(offer), *asking)
            renderer = self._fetches.ready(offer.renderer.md5, wanted_renderer, *asking)
        except (ArchiveGone, ArchiveError) as error:
            self._claims.give_up(lease, FailureReport(kind=FailureKind.NO_ARCHIVE, reason=str(error)))
            return None
        return Archives(scene=scene, renderer=renderer) if scene and renderer else None

    def _look_after(self, left: Sequence[PendingLease]) -> None:
        """Frames that nobody here could ever take keep no place from others, and not for ever."""
        stuck: Counter[tuple[str, bool]] = Counter()
        for one in left:
            if not self._floor.can_anybody(one.need, one.lease.session_key):
                stuck[one.lease.session_key, one.need.use_gpu] += 1
                limit_s = NOBODY_AFTER_S if one.need.only_node is None else MEASURED_PC_GONE_S
                waited_s = max(one.waited_s, self._troubled_s(one.lease))
                if waited_s > limit_s:
                    self._give_back(one.lease, waited_s)
        self._stuck = stuck

    def _give_back(self, lease: Lease, waited_s: float) -> None:
        reason = f"no PC of this farm could take it for {waited_s / 60:.0f} minutes"
        if why := self._why_nobody():
            reason += f" ({why})"
        self._claims.give_up(lease, FailureReport(kind=FailureKind.NODE_LEAVING, reason=reason))

    def _order_all(self, plans: Sequence[_Plan]) -> int:
        outcomes = self._ledger.apply_many(
            [
                Transition(
                    lease_id=one.lease.id, event=LeaseEvent.ORDER, attempt=one.lease.attempt, node_id=one.node.node_id
                )
                for one in plans
            ]
        )
        # A lease that was cancelled meanwhile has no order.
        ordered = [(plan, lease) for plan, lease in zip(plans, outcomes, strict=True) if isinstance(lease, Lease)]
        for position, (plan, lease) in enumerate(ordered):
            try:
                self._send(lease, plan)
            except BrokerUnreachable as error:
                for _, unsent in ordered[position:]:
                    self._claims.take_back(unsent, str(error))
                raise
        return len(ordered)

    def _send(self, lease: Lease, plan: _Plan) -> None:
        order = self._write_order(lease, plan.node.node_id, plan.archives)
        signed = sign_order(order, self._order_key)
        if len(signed.order.encode()) > MAX_ORDER_BYTES:
            reason = f"the server's script makes an order of more than {MAX_ORDER_BYTES} bytes"
            self._claims.give_up(lease, FailureReport(kind=FailureKind.BAD_ORDER, reason=reason))
            return
        self._send_order(signed, order, plan.node.name)
        log.info("%s ordered from %s (attempt %d)", lease.label, plan.node.name, lease.attempt)

    def _write_order(self, lease: Lease, node_id: str, archives: Archives) -> RenderOrder:
        offer: JobOffer = lease.offer
        return RenderOrder(
            lease_id=lease.id,
            attempt=lease.attempt,
            node_id=node_id,
            job_id=offer.job_id,
            job_name=lease.job_name,
            frame=offer.frame,
            revision=offer.revision,
            scene_path=offer.path,
            command_line=offer.renderer.command_line,
            script=offer.script,
            update_method=offer.renderer.update_method,
            use_gpu=offer.use_gpu,
            scene_archives=archives.scene,
            renderer_archive=archives.renderer,
            time_limit_s=self._render_limit_s,
            scene_locked=bool(offer.password),
            fresh_renderer=lease.held_back is not None and lease.held_back.node_id == node_id,
        )


def _scene_requests(offer: JobOffer) -> list[tuple[str, ArchiveRequest]]:
    """The scene's archives in order, each with what the server is asked for."""
    if offer.chunks:
        return [(chunk.md5, ArchiveRequest(type="chunk", chunk=chunk.id)) for chunk in offer.chunks]
    return [(offer.archive_md5, ArchiveRequest(type="job", job=offer.job_id, revision=offer.revision or None))]
