"""The node at work: what happens to an order from its arrival to the depot's answer.

::

    order ─▶ start-fence ─▶ archives ─▶ a free slot ─▶ renderer ─▶ outbox ─▶ depot ─▶ done
               │ stale         │ bad       cancel │        │ no picture         │ stale, rejected
               ▼               ▼                  ▼        ▼                    ▼
             dropped         failed            dropped   failed        dropped, failed

The fence comes first, so a stale order costs one request and fetches nothing. More orders are in hand than there are
slots: while one renders, the next has its archives fetched and the last is on its way to the depot; only the
rendering itself takes a slot.

**An attempt ends when the depot has answered**, and so does its Celery task: a task that Flower calls finished is a
frame the coordinator has. While the coordinator is silent the attempt waits with its frame in the outbox, on disk,
which costs nothing: without the coordinator no other order could pass its fence anyway. A worker that is stopped
meanwhile delivers when it is started again.

Leaving (:meth:`Node.leave`) kills renders, reports them and the orders not yet begun as ``node leaving``, gives
deliveries a few seconds, and is done well within ten.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .archives import ArchiveCache
from .blender import render
from .command import scene_file
from .contract import (
    ArchiveRef,
    Compute,
    ContractError,
    FailureKind,
    NodeHardware,
    Presence,
    RenderOrder,
    SignedOrder,
    Stage,
    open_order,
)
from .delivery import LEAVING, Deliveries, Depot
from .errors import (
    AttemptDropped,
    AttemptFailed,
    BadArchive,
    BadOrder,
    DepotError,
    DepotRefused,
    DiskFull,
    StaleLease,
)
from .extraction import DISK_FULL
from .guard import Guard
from .in_hand import Attempt, InHand
from .job import Job, Rendered
from .outbox import Outbox, Parcel
from .patience import patiently
from .progress import Progress
from .switch import Switch
from .warm_blender import WarmBlenders
from .warm_command import is_test_job

log = logging.getLogger(__name__)

#: An archive that cannot be fetched for this long, while the depot answers everything else, is a failure.
ARCHIVE_PATIENCE_S = 600.0
#: Deliveries under way may go on for this long after the node was told to leave.
LEAVING_GRACE_S = 4.0
#: How soon a wait for a slot notices that it was stopped.
LOOK_EVERY_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who this node is and what it offers."""

    node_id: str
    #: As the coordinator made it unique.
    name: str
    hardware: NodeHardware
    slots: int
    compute: Compute
    #: Threads of one slot's renderer; ``None``: as many as it finds.
    cores: int | None
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a node works with."""

    depot: Depot
    cache: ArchiveCache
    outbox: Outbox
    guard: Guard
    #: Parent of the attempts' scratch folders.
    scratch: Path
    #: Where other nodes get archives from this one; empty: nowhere.
    archive_url: Callable[[], str] = lambda: ""
    #: Blenders that stay open between frames; ``None``: one Blender per frame.
    warm: WarmBlenders | None = None


class Node:
    """Carries out orders, each in a thread of its caller."""

    def __init__(
        self,
        identity: Identity,
        parts: Parts,
        order_key: Ed25519PublicKey,
        *,
        on_change: Callable[[], None] = lambda: None,
        on_forgery: Callable[[], None] = lambda: None,
    ) -> None:
        self.identity, self._parts, self.order_key = identity, parts, order_key
        self.on_change, self.on_forgery = on_change, on_forgery
        #: False: what is in hand is finished and nothing more is wanted.
        self.accepting = True
        self._deliveries = Deliveries(parts.depot, parts.outbox, identity.node_id)
        self._in_hand = InHand()
        self._slots = threading.BoundedSemaphore(identity.slots)
        self._leaving = threading.Event()
        self.expect, self.begin = self._in_hand.expect, self._in_hand.begin
        self.wait_until_idle = self._in_hand.wait_until_idle

    # What others ask or tell.

    def presence(self) -> Presence:
        """The record as it stands now."""
        who = self.identity
        return Presence(
            node_id=who.node_id,
            name=who.name,
            hardware=who.hardware,
            slots=who.slots,
            compute=who.compute,
            busy=tuple(one.state() for one in self._in_hand.all()),
            archives=self._parts.cache.held(),
            archive_url=self._parts.archive_url(),
            shared=self._parts.cache.shares(),
            accepting=self.accepting and not self._leaving.is_set(),
            version=who.version,
        )

    def cancel(self, lease_id: str, attempt: int) -> bool:
        """Ends one attempt at once; ``False`` when it is not in hand."""
        found = self._in_hand.find(lease_id, attempt)
        if found:
            found.switch.stop("cancelled")
        return found is not None

    def leave(self) -> None:
        """Stops everything; takes up to :data:`LEAVING_GRACE_S` and a last word to the depot."""
        self._leaving.set()
        for one in self._in_hand.all():
            if one.stage is not Stage.DELIVERING:
                one.switch.stop(LEAVING)
        self.on_change()
        if self._parts.warm:
            self._parts.warm.close()
        for order in self._in_hand.take_expected():
            if not self._deliveries.give_back(*order):
                break  # a silent coordinator will notice by itself that this node has left
        if not self.wait_until_idle(LEAVING_GRACE_S):
            for one in self._in_hand.all():
                one.switch.stop(LEAVING)

    def carry_out(self, signed: SignedOrder, on_slot: Callable[[], None] = lambda: None) -> None:
        """One order, to its end; ``on_slot`` is called when a slot begins to render it.

        Returns when the depot has the frame. Raises AttemptFailed (the depot knows) or AttemptDropped.
        """
        order = self._opened(signed)
        attempt = Attempt(
            lease_id=order.lease_id,
            attempt=order.attempt,
            job_name=order.job_name,
            frame=order.frame,
            on_slot=on_slot,
        )
        with self._holding(attempt):
            try:
                self._through(order, attempt)
            except AttemptFailed as failed:
                self._deliveries.report(attempt, failed.report)
                raise
            except AttemptDropped as dropped:
                if attempt.switch.reason == LEAVING and attempt.stage is not Stage.DELIVERING:
                    self._deliveries.give_back(attempt.lease_id, attempt.attempt)
                    raise AttemptFailed.because(FailureKind.NODE_LEAVING, LEAVING) from None
                log.info("%s is dropped: %s", attempt.label, dropped)
                raise

    def deliver_leftovers(self) -> None:
        """Delivers what an earlier life of this worker left in the outbox; returns when all is answered."""
        for parcel in self._deliveries.leftovers():
            attempt = Attempt(
                lease_id=parcel.lease_id,
                attempt=parcel.attempt,
                job_name=parcel.job_name,
                frame=parcel.frame,
                stage=Stage.DELIVERING,
            )
            try:
                with self._holding(attempt):
                    self._deliveries.deliver(parcel, attempt)
                log.info("%s of an earlier run delivered", attempt.label)
            except AttemptDropped as dropped:
                log.info("%s of an earlier run: %s", attempt.label, dropped)
            except AttemptFailed as failed:
                self._deliveries.report(attempt, failed.report)

    # The steps of an order.

    def _opened(self, signed: SignedOrder) -> RenderOrder:
        try:
            return open_order(signed, self.order_key, self.identity.node_id)
        except ContractError as error:
            log.error("an order is refused: %s", error)
            self.on_forgery()
            raise AttemptFailed.because(FailureKind.BAD_ORDER, str(error)) from None

    @contextmanager
    def _holding(self, attempt: Attempt) -> Iterator[None]:
        with self._in_hand.holding(attempt):
            if self._leaving.is_set():
                attempt.switch.stop(LEAVING)
            self.on_change()
            yield
        self.on_change()

    def _through(self, order: RenderOrder, attempt: Attempt) -> None:
        try:
            self._ask_to_start(attempt)
            parcel = self._frame_of(order, attempt)
            self._enter(attempt, Stage.DELIVERING)
            self._deliveries.deliver(parcel, attempt)
        except (AttemptFailed, AttemptDropped):
            raise
        except Exception as error:
            raise AttemptFailed.because(*_blame(error)) from None
        took, memory_mb = parcel.report.render_s, parcel.report.memory_kb // 1024
        log.info("%s delivered: %.1f s, %d MB", attempt.label, took, memory_mb)

    def _ask_to_start(self, attempt: Attempt) -> None:
        ask = self._parts.depot.start
        try:
            patiently(
                lambda: ask(attempt.lease_id, attempt.attempt, self.identity.node_id, attempt.claim), attempt.switch
            )
        except StaleLease as stale:
            raise AttemptDropped(str(stale)) from None
        except DepotRefused as refused:
            raise AttemptFailed.because(FailureKind.INTERNAL, str(refused)) from None

    def _frame_of(self, order: RenderOrder, attempt: Attempt) -> Parcel:
        scratch = self._parts.scratch / f"{order.lease_id}.{order.attempt}"
        try:
            rendered = self._rendered(order, attempt, scratch)
            return self._deliveries.keep(order, rendered, self.identity.cores or self.identity.hardware.cpu_cores)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _rendered(self, order: RenderOrder, attempt: Attempt, scratch: Path) -> Rendered:
        refs = (order.renderer_archive, order.scene_archive)
        with self._parts.cache.using(refs):
            renderer, scene = (self._archive(ref, attempt.switch) for ref in refs)
            job = Job(
                renderer=renderer,
                scene=scene_file(scene, order.scene_path),
                command_line=order.command_line,
                script=order.script,
                frame=order.frame,
                update_method=order.update_method,
                gpu=order.use_gpu and self.identity.compute is not Compute.CPU,
                cores=self.identity.cores,
                time_limit_s=order.time_limit_s,
                scratch=scratch,
                is_test=is_test_job(order.job_id),
            )
            start = self._parts.warm.render if self._parts.warm else render
            with self._a_slot(attempt):
                return start(job, attempt.switch, self._parts.guard, lambda progress: _note(attempt, progress))

    def _archive(self, ref: ArchiveRef, switch: Switch) -> Path:
        return patiently(lambda: self._parts.cache.ensure(ref, switch.stopped), switch, ARCHIVE_PATIENCE_S)

    @contextmanager
    def _a_slot(self, attempt: Attempt) -> Iterator[None]:
        self._enter(attempt, Stage.WAITING)
        while not self._slots.acquire(timeout=LOOK_EVERY_S):
            if attempt.switch.stopped():
                raise AttemptDropped(attempt.switch.reason)
        try:
            self._enter(attempt, Stage.RENDERING)
            attempt.on_slot()
            yield
        finally:
            self._slots.release()

    def _enter(self, attempt: Attempt, stage: Stage) -> None:
        attempt.stage = stage
        self.on_change()


def _note(attempt: Attempt, progress: Progress) -> None:
    attempt.progress = progress


def _blame(error: Exception) -> tuple[FailureKind, str]:
    """The kind of failure and one line for a person."""
    if isinstance(error, BadArchive):
        return FailureKind.BAD_ARCHIVE, str(error)
    if isinstance(error, DiskFull):
        return FailureKind.DISK_FULL, str(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return FailureKind.DISK_FULL, "the disk of this PC is full"
    if isinstance(error, BadOrder):
        return FailureKind.BAD_ORDER, str(error)
    if isinstance(error, DepotError):
        return FailureKind.NO_ARCHIVE, str(error)
    log.error("an attempt met an error of ours", exc_info=error)
    return FailureKind.INTERNAL, f"{type(error).__name__} on the node; its log knows more"
