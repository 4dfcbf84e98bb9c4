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
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from render_tasks.contract import (
    ArchiveRef,
    FailureKind,
    FailureReport,
    Presence,
    RenderOrder,
    SignedOrder,
    sign_order,
)

from .account import Account
from .archives import ArchiveError, ArchiveStore, DiskFull
from .claims import Claims
from .leases import Lease, LeaseError, LeaseEvent, LeaseState
from .ledger import Ledger
from .nodes import BrokerDown
from .placement import Candidate, Need, choose, compute_method
from .protocol.messages import ArchiveRequest, ComputeMethod, JobOffer
from .server_client import ArchiveGone, ServerSilent
from .sessions import Backoff, FarmSession

log = logging.getLogger(__name__)

#: Downloads from the server side by side; more would only share the same line.
FETCHES_AT_ONCE = 4
#: No archive of this protocol is larger (bytes).
MAX_ARCHIVE = 64 * 1024**3


class SendOrder(Protocol):
    """Puts a signed order into a node's queue; raises where the broker does not take it."""

    def __call__(self, signed: SignedOrder, order: RenderOrder, node_name: str, /) -> None: ...


class Fetches:
    """Archives on their way from the server: each once, in the background, with its own waits after silence."""

    def __init__(self, store: ArchiveStore, backoff: Callable[[], Backoff], clock: Callable[[], float]) -> None:
        self._store, self._make_backoff, self._clock = store, backoff, clock
        self._pool = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="fetch")
        self._running: dict[str, Future[ArchiveRef]] = {}
        self._waits: dict[str, tuple[Backoff, float]] = {}
        self._stopping = threading.Event()

    def ready(
        self, md5: str, request: ArchiveRequest, session: FarmSession, then: Callable[[], None]
    ) -> ArchiveRef | None:
        """The archive, or ``None`` while it is on its way (``then`` is called when that ends).

        Raises what ended the download for good: :class:`ArchiveGone` or :class:`ArchiveError`.
        """
        path = self._store.path_of(md5)
        if path is not None:
            self._waits.pop(md5, None)
            return ArchiveRef(md5=md5, size=path.stat().st_size)
        future = self._running.get(md5)
        if future is not None and future.done():
            del self._running[md5]
            self._raise_or_wait(md5, future)
        elif future is None and self._clock() >= self._waits.get(md5, (None, 0.0))[1]:
            future = self._pool.submit(self._fetch, md5, request, session)
            self._running[md5] = future
            future.add_done_callback(lambda _: then())
        return None

    def close(self) -> None:
        """Ends downloads that are under way."""
        self._stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, md5: str, request: ArchiveRequest, session: FarmSession) -> ArchiveRef:
        def into(target: BinaryIO) -> None:
            session.client.download(request, target, limit_bytes=MAX_ARCHIVE, cancelled=self._stopping.is_set)

        if not session.ensure_signed_in():
            raise ServerSilent("download-archive", "", "the session is not signed in")
        return self._store.ensure(md5, into)

    def _raise_or_wait(self, md5: str, future: Future[ArchiveRef]) -> None:
        try:
            future.result()
        except (ServerSilent, DiskFull) as error:
            backoff = self._waits.get(md5, (self._make_backoff(), 0.0))[0]
            wait_s = backoff.next()
            self._waits[md5] = (backoff, self._clock() + wait_s)
            log.warning("archive %s is not here yet, next try in %.0f s: %s", md5, wait_s, error)


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
    ) -> None:
        self._ledger, self._account, self._archives, self._claims = ledger, account, archives, claims
        self._usable, self._send_order, self._order_key = usable, send_order, order_key
        self._look_ahead, self._render_limit_s = look_ahead, render_limit_s
        self._fetches = Fetches(archives, backoff, clock)
        #: Set whenever there may be something to place.
        self.wake_placing = threading.Event()
        self.frames_remaining: int | None = None

    def ask_once(self, session: FarmSession, nodes: Sequence[Presence]) -> bool:
        """Asks for one frame if a slot of these nodes could use it; true: ask again at once."""
        held = [lease for lease in self._ledger.leases(*_WITH_US) if lease.session_key == session.key]
        method = self._method_for(nodes, held)
        if method is None or any(lease.offer.synchronous_upload for lease in held):
            return False
        answer = session.ask(method, self._archives.held())
        if answer is None:
            return False
        self.frames_remaining = answer.frames_remaining
        for md5 in answer.delete_archives:
            self._archives.delete(md5)
        if answer.offer is None:
            return False
        lease = self._ledger.grant(answer.offer, session.key)
        log.info("%s granted", lease.label)
        self.wake_placing.set()
        return True

    def place_once(self) -> int:
        """Orders every GRANTED lease that has its archives and a node; returns how many."""
        placed = 0
        granted = sorted(self._ledger.leases(LeaseState.GRANTED), key=lambda lease: lease.granted_at)
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
        room = sum(
            max(0, one.presence.slots + self._look_ahead - one.underway) for one in candidates if one.presence.accepting
        )
        if room <= sum(lease.state is LeaseState.GRANTED for lease in held):
            return None
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
                self._fetches.ready(offer.archive_md5, scene, session, self.wake_placing.set),
                self._fetches.ready(offer.renderer.md5, renderer, session, self.wake_placing.set),
            )
        except (ArchiveGone, ArchiveError) as error:
            self._claims.give_up(lease, FailureReport(kind=FailureKind.NO_ARCHIVE, reason=str(error)))
            return None
        return (found[0], found[1]) if found[0] and found[1] else None

    def _place(self, lease: Lease, scene: ArchiveRef, renderer: ArchiveRef) -> bool:
        nodes = self._account.groups(self._usable()).get(lease.session_key, [])
        if not nodes:
            return False
        # All nodes of a session are of its platform.
        need = Need(
            os=nodes[0].hardware.os,
            bits=nodes[0].hardware.bits,
            use_gpu=lease.offer.use_gpu,
            scene_md5=scene.md5,
            renderer_md5=renderer.md5,
            tried=lease.tried_nodes,
        )
        node_id = choose(need, self._candidates(nodes), lookahead=self._look_ahead)
        if node_id is None:
            return False
        node = next(node for node in nodes if node.node_id == node_id)
        return self._order(lease, node, scene, renderer)

    def _order(self, lease: Lease, node: Presence, scene: ArchiveRef, renderer: ArchiveRef) -> bool:
        try:
            lease = self._ledger.apply(lease.id, LeaseEvent.ORDER, attempt=lease.attempt, node_id=node.node_id)
        except LeaseError:
            return False  # cancelled meanwhile
        order = self._write_order(lease, node.node_id, scene, renderer)
        try:
            self._send_order(sign_order(order, self._order_key), order, node.name)
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
