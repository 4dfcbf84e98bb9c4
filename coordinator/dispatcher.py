"""Free slots → offers → leases → orders in the nodes' queues.

Two halves that meet in the ledger only: :meth:`Dispatcher.ask_once` turns free slots into GRANTED leases,
:meth:`Dispatcher.place_once` turns GRANTED leases whose archives are in the depot into ORDERED ones. A lease that comes
back (node lost, attempt failed) is GRANTED again and takes the second half once more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from render_tasks.contract import (
    MAX_ORDER_BYTES,
    ArchiveRef,
    FailureKind,
    FailureReport,
    Presence,
    RenderOrder,
    SignedOrder,
    sign_order,
)

from .account import Account
from .archives import ArchiveError, ArchiveStore
from .claims import Claims
from .fetches import Fetches
from .leases import Lease, LeaseError, LeaseEvent, LeaseState
from .ledger import Ledger
from .ledger_file import LedgerError
from .nodes import BrokerDown
from .placement import Candidate, Need, can_render, choose, compute_method
from .protocol.messages import ArchiveRequest, ComputeMethod, ErrorReport, JobOffer
from .server_client import ArchiveGone
from .sessions import Backoff, FarmSession

log = logging.getLogger(__name__)

#: A frame that no PC here can take is given back to the server after this long (seconds); somebody else may have one.
NOBODY_AFTER_S = 900
#: A PC that lost this many orders of one lease does not get it again while there is another.
ORDERS_LOST = 3


class SendOrder(Protocol):
    """Puts a signed order into a node's queue; raises where the broker does not take it."""

    def __call__(self, signed: SignedOrder, order: RenderOrder, node_name: str, /) -> None: ...


class Dispatcher:
    """Keeps the slots of the LAN busy."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        account: Account,
        archives: ArchiveStore,
        claims: Claims,
        usable: Callable[[], dict[str, Presence]],
        send_order: SendOrder,
        order_key: Ed25519PrivateKey,
        backoff: Callable[[], Backoff],
        look_ahead: int,
        render_limit_s: int | None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._account, self._archives, self._claims = ledger, account, archives, claims
        self._usable, self._send_order, self._order_key = usable, send_order, order_key
        self._look_ahead, self._render_limit_s = look_ahead, render_limit_s
        self._fetches = Fetches(archives, backoff, clock)
        self._wall_clock = wall_clock
        #: Set whenever there may be something to place.
        self.wake_placing = threading.Event()
        self.frames_remaining: int | None = None
        #: The last frame could not be written down.
        self._record_failed = False

    def ask_once(self, session: FarmSession, nodes: Sequence[Presence]) -> bool:
        """Asks for one frame if a slot of these nodes could use it; true: ask again at once."""
        held = [lease for lease in self._ledger.leases(*_WITH_US) if lease.session_key == session.key]
        method = self._method_for(nodes, held)
        if method is None or any(lease.offer.synchronous_upload for lease in held):
            return False
        if self._record_failed:
            # A frame that cannot be entered must not be asked for; this raises until the disk takes it again.
            self._ledger.keep("asked", f"{self._wall_clock():.0f}")
            self._record_failed = False
        answer = session.ask(method, self._archives.held())
        if answer is None:
            return False
        self.frames_remaining = answer.frames_remaining
        if answer.offer is not None:
            self._grant(answer.offer, session)
        for md5 in answer.delete_archives:
            self._archives.delete(md5)
        return answer.offer is not None

    def _grant(self, offer: JobOffer, session: FarmSession) -> None:
        try:
            lease = self._ledger.grant(offer, session.key)
        except LedgerError as error:
            # The frame is ours at the server and nowhere else: give it back before anything else is asked for.
            self._record_failed = True
            report = ErrorReport(job=offer.job_id, frame=offer.frame, extras=offer.extras)
            session.client.report_error(report, f"the farm cannot keep its record: {error}")
            raise
        log.info("%s granted", lease.label)
        self.wake_placing.set()

    def place_once(self) -> int:
        """Orders every GRANTED lease that has its archives and a node; returns how many."""
        placed = 0
        granted = sorted(self._ledger.leases(LeaseState.GRANTED), key=lambda lease: lease.granted_at)
        self._fetches.forget_others(self.needed_archives())
        for lease in granted:
            archives = self._archives_of(lease)
            if archives is not None and self._place(lease, *archives):
                placed += 1
        return placed

    def needed_archives(self) -> set[str]:
        """MD5 sums that live leases need."""
        active = self._ledger.leases(LeaseState.GRANTED, LeaseState.ORDERED, LeaseState.RENDERING)
        return {md5 for lease in active for md5 in (lease.offer.archive_md5, lease.offer.renderer.md5)}

    def close(self) -> None:
        """Ends downloads."""
        self._fetches.close()

    def _method_for(self, nodes: Sequence[Presence], held: Sequence[Lease]) -> ComputeMethod | None:
        """What to ask for, or ``None`` when the frames in hand already fill the slots and the look-ahead."""
        candidates = self._candidates(nodes)
        for lease in held:
            if lease.state is LeaseState.GRANTED:
                chosen = choose(self._need_of(lease), candidates, lookahead=self._look_ahead)
                candidates = [one.with_one_more() if one.presence.node_id == chosen else one for one in candidates]
        return compute_method(candidates, lookahead=self._look_ahead)

    def _candidates(self, nodes: Sequence[Presence]) -> list[Candidate]:
        underway = Counter(lease.node_id for lease in self._ledger.leases(*_WITH_NODES))
        return [Candidate(presence=node, underway=underway[node.node_id]) for node in nodes]

    def _archives_of(self, lease: Lease) -> tuple[ArchiveRef, ArchiveRef] | None:
        offer = lease.offer
        session = self._account.get(lease.session_key)
        if session is None:
            return None
        scene = ArchiveRequest(type="job", job=offer.job_id, revision=offer.revision)
        renderer = ArchiveRequest(type="binary", job=offer.job_id)
        try:
            # Both are asked for before either is looked at, so that they travel side by side.
            found = (
                self._fetches.ready(offer.archive_md5, scene, session, lease.id, self.wake_placing.set),
                self._fetches.ready(offer.renderer.md5, renderer, session, lease.id, self.wake_placing.set),
            )
        except (ArchiveGone, ArchiveError) as error:
            self._claims.give_up(lease, FailureReport(kind=FailureKind.NO_ARCHIVE, reason=str(error)))
            return None
        return (found[0], found[1]) if found[0] and found[1] else None

    def _place(self, lease: Lease, scene: ArchiveRef, renderer: ArchiveRef) -> bool:
        nodes = self._account.groups(self._usable()).get(lease.session_key, [])
        need = self._need_of(lease)
        if not any(can_render(need, node) for node in nodes):
            self._give_back_if_nobody_comes(lease)
            return False
        node_id = choose(need, self._candidates(nodes), lookahead=self._look_ahead)
        if node_id is None:
            return False
        node = next(node for node in nodes if node.node_id == node_id)
        return self._order(lease, node, scene, renderer)

    def _need_of(self, lease: Lease) -> Need:
        return Need(
            use_gpu=lease.offer.use_gpu,
            scene_md5=lease.offer.archive_md5,
            renderer_md5=lease.offer.renderer.md5,
            tried=(*lease.tried_nodes, *self._losers(lease)),
        )

    def _losers(self, lease: Lease) -> list[str]:
        """PCs whose orders for this lease were lost again and again."""
        if lease.attempt - lease.failures <= ORDERS_LOST:
            return []
        lost = Counter(one.node_id for one in self._ledger.attempts(lease.id) if one.node_id)
        return [node_id for node_id, times in lost.items() if times >= ORDERS_LOST]

    def _give_back_if_nobody_comes(self, lease: Lease) -> None:
        waited_s = self._wall_clock() - lease.changed_at
        if waited_s > NOBODY_AFTER_S:
            reason = f"no PC of this farm could take it for {waited_s / 60:.0f} minutes"
            self._claims.give_up(lease, FailureReport(kind=FailureKind.NODE_LEAVING, reason=reason))

    def _order(self, lease: Lease, node: Presence, scene: ArchiveRef, renderer: ArchiveRef) -> bool:
        try:
            lease = self._ledger.apply(lease.id, LeaseEvent.ORDER, attempt=lease.attempt, node_id=node.node_id)
        except LeaseError:
            return False  # cancelled meanwhile
        order = self._write_order(lease, node.node_id, scene, renderer)
        signed = sign_order(order, self._order_key)
        if len(signed.order.encode()) > MAX_ORDER_BYTES:
            reason = f"the server's script makes an order of more than {MAX_ORDER_BYTES} bytes"
            self._claims.give_up(lease, FailureReport(kind=FailureKind.BAD_ORDER, reason=reason))
            return False
        try:
            self._send_order(signed, order, node.name)
        except BrokerDown as error:
            self._claims.take_back(lease, str(error))
            raise
        log.info("%s ordered from %s (attempt %d)", lease.label, node.name, lease.attempt)
        return True

    def _write_order(self, lease: Lease, node_id: str, scene: ArchiveRef, renderer: ArchiveRef) -> RenderOrder:
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
            scene_archive=scene,
            renderer_archive=renderer,
            time_limit_s=self._render_limit_s,
        )


_WITH_NODES = (LeaseState.ORDERED, LeaseState.RENDERING)
_WITH_US = (LeaseState.GRANTED, *_WITH_NODES, LeaseState.DELIVERED)
