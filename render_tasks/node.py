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
import math
import random
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .archives import ArchiveCache
from .blender import Job, Rendered, Switch, render
from .command import scene_file
from .contract import (
    ArchiveRef,
    Compute,
    ContractError,
    FailureKind,
    FailureReport,
    FrameReport,
    NodeHardware,
    Presence,
    RenderOrder,
    SignedOrder,
    SlotState,
    Stage,
    open_order,
)
from .errors import (
    ArchiveMissing,
    AttemptDropped,
    AttemptFailed,
    BadArchive,
    BadOrder,
    DepotError,
    DepotRefused,
    DepotSilent,
    DiskFull,
    FrameRejected,
    StaleLease,
    TokenRefused,
)
from .extraction import DISK_FULL
from .guard import Guard
from .outbox import Outbox, Parcel, md5_of
from .progress import Progress

log = logging.getLogger(__name__)

T = TypeVar("T")

#: First and longest wait for a silent depot; they grow between and are jittered.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 5.0
#: An archive that cannot be fetched for this long, while the depot answers everything else, is a failure.
ARCHIVE_PATIENCE_S = 600.0
#: Deliveries under way may go on for this long after the node was told to leave.
LEAVING_GRACE_S = 4.0
#: A last word to the depot: it is there or it is not.
LAST_WORD_S = 1.5
#: The reason of a switch thrown because the node leaves.
LEAVING = "the node is leaving"


class Depot(Protocol):
    """What the node asks of the coordinator (:class:`render_tasks.depot_client.DepotClient`)."""

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> None: ...
    def deliver(self, lease_id: str, attempt: int, node_id: str, report: FrameReport, picture: Path) -> None: ...
    def fail(
        self, lease_id: str, attempt: int, node_id: str, report: FailureReport, *, timeout_s: float | None = None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who this node is and what it offers."""

    node_id: str
    #: As the coordinator made it unique.
    name: str
    run_id: str
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


@dataclass(kw_only=True)
class _Attempt:
    """One attempt in hand."""

    lease_id: str
    attempt: int
    job_name: str
    frame: str
    stage: Stage = Stage.FETCHING
    progress: Progress = field(default_factory=Progress)
    switch: Switch = field(default_factory=Switch)
    #: The word by which the depot tells a repeated question from a repeated order.
    claim: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def key(self) -> tuple[str, int]:
        return self.lease_id, self.attempt

    @property
    def label(self) -> str:
        return f"frame {self.frame} · {self.job_name}"


class Node:
    """Carries out orders. Threads share it; each order has its own."""

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
        self._lock = threading.Lock()
        self._in_hand: dict[tuple[str, int], _Attempt] = {}
        self._not_begun: set[tuple[str, int]] = set()
        self._slots = threading.BoundedSemaphore(identity.slots)
        self._leaving = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self.accepting = True

    # What others ask or tell.

    def presence(self) -> Presence:
        """The record as it stands now."""
        who = self.identity
        with self._lock:
            busy = tuple(_slot_state(one) for one in self._in_hand.values())
        return Presence(
            node_id=who.node_id,
            name=who.name,
            hardware=who.hardware,
            slots=who.slots,
            compute=who.compute,
            busy=busy,
            archives=self._parts.cache.held(),
            accepting=self.accepting and not self._leaving.is_set(),
            version=who.version,
            run_id=who.run_id,
        )

    def cancel(self, lease_id: str, attempt: int) -> bool:
        """Ends one attempt at once; ``False`` when it is not in hand."""
        with self._lock:
            found = self._in_hand.get((lease_id, attempt))
        if found:
            found.switch.stop("cancelled")
        return found is not None

    def expect(self, lease_id: str, attempt: int) -> None:
        """An order arrived and waits for a thread."""
        with self._lock:
            self._not_begun.add((lease_id, attempt))

    def wait_until_idle(self, seconds: float | None = None) -> bool:
        """Whether nothing is in hand any more."""
        return self._idle.wait(seconds)

    def leave(self) -> None:
        """Stops everything; takes up to :data:`LEAVING_GRACE_S` and a last word to the depot."""
        self._leaving.set()
        with self._lock:
            in_hand = list(self._in_hand.values())
        for one in in_hand:
            if one.stage is not Stage.DELIVERING:
                one.switch.stop(LEAVING)
        self.on_change()
        self._give_back_orders()
        if not self._idle.wait(LEAVING_GRACE_S):
            for one in in_hand:
                one.switch.stop(LEAVING)

    def carry_out(self, signed: SignedOrder) -> None:
        """One order, to its end.

        Returns when the depot has the frame. Raises AttemptFailed (the depot knows) or AttemptDropped.
        """
        order = self._opened(signed)
        attempt = _Attempt(lease_id=order.lease_id, attempt=order.attempt, job_name=order.job_name, frame=order.frame)
        with self._holding(attempt):
            try:
                self._ask_to_start(attempt)
                parcel = self._frame_of(order, attempt)
                self._deliver(parcel, attempt)
            except AttemptFailed as failed:
                self._report(attempt, failed.report)
                raise
            except AttemptDropped as dropped:
                if attempt.switch.reason == LEAVING and attempt.stage is not Stage.DELIVERING:
                    self._report_leaving(attempt.lease_id, attempt.attempt)
                    raise AttemptFailed.because(FailureKind.NODE_LEAVING, LEAVING) from None
                log.info("%s is dropped: %s", attempt.label, dropped)
                raise

    def deliver_leftovers(self) -> None:
        """Delivers what an earlier life of this worker left in the outbox; returns when the outbox is empty."""
        for parcel in self._parts.outbox.parcels():
            attempt = _Attempt(
                lease_id=parcel.lease_id,
                attempt=parcel.attempt,
                job_name=parcel.job_name,
                frame=parcel.frame,
                stage=Stage.DELIVERING,
            )
            try:
                with self._holding(attempt):
                    self._hand_over(parcel, attempt)
            except AttemptDropped as dropped:
                log.info("%s of an earlier run: %s", attempt.label, dropped)
            except AttemptFailed as failed:
                self._report(attempt, failed.report)

    # The steps of an order.

    def _opened(self, signed: SignedOrder) -> RenderOrder:
        try:
            return open_order(signed, self.order_key, self.identity.node_id)
        except ContractError as error:
            log.error("an order is refused: %s", error)
            self.on_forgery()
            raise AttemptFailed.because(FailureKind.BAD_ORDER, str(error)) from None

    @contextmanager
    def _holding(self, attempt: _Attempt) -> Iterator[None]:
        with self._lock:
            self._not_begun.discard(attempt.key)
            if attempt.key in self._in_hand:
                raise AttemptDropped("this attempt is already in hand")
            self._in_hand[attempt.key] = attempt
            self._idle.clear()
        if self._leaving.is_set():
            attempt.switch.stop(LEAVING)
        self.on_change()
        try:
            yield
        finally:
            with self._lock:
                del self._in_hand[attempt.key]
                if not self._in_hand:
                    self._idle.set()
            self.on_change()

    def _ask_to_start(self, attempt: _Attempt) -> None:
        def ask() -> None:
            self._parts.depot.start(attempt.lease_id, attempt.attempt, self.identity.node_id, attempt.claim)

        try:
            _patiently(ask, attempt.switch)
        except StaleLease as stale:
            raise AttemptDropped(str(stale)) from None
        except DepotRefused as refused:
            raise AttemptFailed.because(FailureKind.INTERNAL, str(refused)) from None

    def _frame_of(self, order: RenderOrder, attempt: _Attempt) -> Parcel:
        scratch = self._parts.scratch / f"{order.lease_id}.{order.attempt}"
        try:
            rendered = self._rendered(order, attempt, scratch)
            parcel = self._parcel(order, rendered)
            self._parts.outbox.keep(parcel, rendered.picture)
            return parcel
        except (AttemptFailed, AttemptDropped):
            raise
        except Exception as error:
            raise AttemptFailed.because(*_blame(error)) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _rendered(self, order: RenderOrder, attempt: _Attempt, scratch: Path) -> Rendered:
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
            )
            with self._a_slot(attempt):
                return render(job, attempt.switch, self._parts.guard, lambda progress: _note(attempt, progress))

    def _archive(self, ref: ArchiveRef, switch: Switch) -> Path:
        return _patiently(lambda: self._parts.cache.ensure(ref, switch.stopped), switch, ARCHIVE_PATIENCE_S)

    @contextmanager
    def _a_slot(self, attempt: _Attempt) -> Iterator[None]:
        self._enter(attempt, Stage.WAITING)
        while not self._slots.acquire(timeout=0.2):
            if attempt.switch.stopped():
                raise AttemptDropped(attempt.switch.reason)
        try:
            self._enter(attempt, Stage.RENDERING)
            yield
        finally:
            self._slots.release()

    def _parcel(self, order: RenderOrder, rendered: Rendered) -> Parcel:
        report = FrameReport(
            name=rendered.picture.name,
            md5=md5_of(rendered.picture),
            render_s=rendered.render_s,
            memory_kb=rendered.memory_kb,
            cores=self.identity.cores or self.identity.hardware.cpu_cores,
        )
        return Parcel(
            lease_id=order.lease_id,
            attempt=order.attempt,
            job_name=order.job_name,
            frame=order.frame,
            report=report,
        )

    def _deliver(self, parcel: Parcel, attempt: _Attempt) -> None:
        self._enter(attempt, Stage.DELIVERING)
        self._hand_over(parcel, attempt)
        log.info("%s delivered: %.1f s, %d MB", attempt.label, parcel.report.render_s, parcel.report.memory_kb // 1024)

    def _hand_over(self, parcel: Parcel, attempt: _Attempt) -> None:
        """Until the depot has answered; only then does the frame leave the outbox."""
        picture = self._parts.outbox.picture(parcel)

        def hand_over() -> None:
            self._parts.depot.deliver(parcel.lease_id, parcel.attempt, self.identity.node_id, parcel.report, picture)

        try:
            _patiently(hand_over, attempt.switch)
        except StaleLease as stale:
            self._parts.outbox.discard(parcel)
            raise AttemptDropped(str(stale)) from None
        except (FrameRejected, DepotRefused) as no:
            self._parts.outbox.discard(parcel)
            raise AttemptFailed.because(FailureKind.BAD_PICTURE, str(no)) from None
        except OSError as error:
            self._parts.outbox.discard(parcel)
            raise AttemptFailed.because(
                FailureKind.INTERNAL, f"the kept frame is gone: {type(error).__name__}"
            ) from None
        except AttemptDropped:
            if attempt.switch.reason == LEAVING:
                raise AttemptDropped("the frame is kept and delivered when this worker starts again") from None
            self._parts.outbox.discard(parcel)
            raise
        self._parts.outbox.discard(parcel)

    # Failures.

    def _report(self, attempt: _Attempt, report: FailureReport) -> None:
        log.warning("%s failed: %s: %s", attempt.label, report.kind.value, report.reason)

        def tell() -> None:
            self._parts.depot.fail(attempt.lease_id, attempt.attempt, self.identity.node_id, report)

        try:
            _patiently(tell, attempt.switch)
        except (DepotError, AttemptDropped) as error:
            log.info("%s: its failure was not reported: %s", attempt.label, error)

    def _report_leaving(self, lease_id: str, attempt: int) -> None:
        report = FailureReport(kind=FailureKind.NODE_LEAVING, reason=LEAVING)
        try:
            self._parts.depot.fail(lease_id, attempt, self.identity.node_id, report, timeout_s=LAST_WORD_S)
        except DepotError as error:
            log.info("the coordinator was not told that lease %s goes back: %s", lease_id, error)

    def _give_back_orders(self) -> None:
        with self._lock:
            orders = sorted(self._not_begun)
            self._not_begun.clear()
        for lease_id, attempt in orders:
            self._report_leaving(lease_id, attempt)

    def _enter(self, attempt: _Attempt, stage: Stage) -> None:
        attempt.stage = stage
        self.on_change()


def _patiently(call: Callable[[], T], switch: Switch, give_up_after_s: float = math.inf) -> T:
    """Repeats a call while the depot is silent, with growing, jittered waits, until it answers or the switch is thrown.

    A refused token is waited out too: whoever changes it restarts one side after the other.
    Raises AttemptDropped, the call's own errors, or DepotSilent after ``give_up_after_s`` seconds of waiting.
    """
    waited, wait = 0.0, FIRST_WAIT_S
    while True:
        if switch.stopped():
            raise AttemptDropped(switch.reason)
        try:
            return call()
        except (DepotSilent, TokenRefused) as error:
            if waited >= give_up_after_s:
                raise
            log.log(logging.ERROR if isinstance(error, TokenRefused) else logging.INFO, "%s", error)
        pause = wait * random.uniform(0.5, 1.0)
        switch.wait(pause)
        waited, wait = waited + pause, min(LONGEST_WAIT_S, wait * 2)


def _note(attempt: _Attempt, progress: Progress) -> None:
    attempt.progress = progress


def _blame(error: Exception) -> tuple[FailureKind, str]:
    """The kind of failure and one line for a person."""
    if isinstance(error, BadArchive):
        return FailureKind.BAD_ARCHIVE, str(error)
    if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in DISK_FULL):
        return FailureKind.DISK_FULL, str(error) if isinstance(error, DiskFull) else "the disk of this PC is full"
    if isinstance(error, BadOrder):
        return FailureKind.BAD_ORDER, str(error)
    if isinstance(error, (ArchiveMissing, DepotError)):
        return FailureKind.NO_ARCHIVE, str(error)
    log.exception("an attempt met an error of ours")
    return FailureKind.INTERNAL, f"{type(error).__name__} on the node; its log knows more"


def _slot_state(attempt: _Attempt) -> SlotState:
    progress = attempt.progress
    return SlotState(
        lease_id=attempt.lease_id,
        attempt=attempt.attempt,
        job_name=attempt.job_name,
        frame=attempt.frame,
        stage=attempt.stage,
        progress=progress.fraction,
        remaining_s=progress.remaining_s,
        memory_kb=progress.memory_kb or None,
    )
