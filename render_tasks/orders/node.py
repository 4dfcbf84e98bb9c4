"""What happens to an order from its arrival to the coordinator's answer.

::

    order ─▶ start-fence ─▶ archives ─▶ a free slot ─▶ renderer ─▶ outbox ─▶ coordinator ─▶ done
               │ stale         │ bad       cancel │        │ no picture         │ stale, rejected
               ▼               ▼                  ▼        ▼                    ▼
             dropped         failed            dropped   failed        dropped, failed

The fence comes first, so a stale order costs one request and fetches nothing. A node works on more orders than it has
slots: while one renders, the next has its archives fetched and the last is on its way to the coordinator; only the
rendering itself takes a slot. Whose turn it is says :mod:`render_tasks.orders.slots`.

**An attempt ends when the coordinator has answered**, and so does its Celery task: a task that Flower calls finished is
a frame the coordinator has. While the coordinator is silent the attempt waits with its frame in the outbox, on disk,
which costs nothing: without the coordinator no other order could pass its fence anyway. A worker that is stopped
meanwhile delivers when it is started again.

Leaving (:meth:`Node.leave`) kills renders, reports them and the orders not yet begun as ``node leaving``, gives
deliveries a few seconds, and is done well within ten.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from render_tasks.archives.extraction import THIS_PC
from render_tasks.errors import (
    AttemptDropped,
    AttemptFailed,
    BadArchive,
    BadOrder,
    CacheDiskFull,
    CoordinatorError,
    CoordinatorFailed,
    CoordinatorRefused,
    StaleLease,
    UnsafeFile,
)
from render_tasks.retry import retry_while_unreachable
from render_tasks.untrusted.deadline import within
from render_tasks.untrusted.removal import remove
from sheepfold.atomic_files import is_disk_full
from sheepfold.contract.api_messages import FailureKind, StartAnswer
from sheepfold.contract.errors import ContractError, ExpiredMessage, ReplayedMessage
from sheepfold.contract.failure_causes import Cause, cause_of
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.presence import Presence, Stage
from sheepfold.contract.signing import SignedMessage

from .attempts import ActiveAttempts, Attempt
from .delivery import LEAVING, Deliveries
from .opening import MessageOpener
from .outbox import Parcel
from .render_pipeline import RenderPipeline
from .services import NodeIdentity, NodeServices

log = logging.getLogger(__name__)

#: Deliveries under way may go on for this long after the node was told to leave.
LEAVING_GRACE_S = 4.0
#: Seconds to move a picture into the outbox and have it on the disk: a slow disk writes gigabytes in them.
KEEP_WITHIN_S = 180.0


class Node:
    """Carries out orders, each in a thread of its caller."""

    def __init__(
        self,
        identity: NodeIdentity,
        services: NodeServices,
        opener: MessageOpener,
        *,
        on_change: Callable[[], None] = lambda: None,
        on_forgery: Callable[[], None] = lambda: None,
    ) -> None:
        self.identity, self._services, self._opener = identity, services, opener
        self._on_change, self._on_forgery = on_change, on_forgery
        #: False: what is under way is finished and nothing more is wanted.
        self.accepting = True
        #: What keeps it from following its coordinator's orders, for a person; empty: nothing does.
        self.trouble = ""
        self._renders = RenderPipeline(identity, services, self._enter)
        self._deliveries = Deliveries(services.coordinator, services.outbox, identity.node_id)
        self._attempts = ActiveAttempts()
        self._leaving = threading.Event()

    # What others ask or tell.

    def presence(self) -> Presence:
        """The record as it stands now."""
        who, health = self.identity, self._services.health
        return Presence(
            node_id=who.node_id,
            name=who.name,
            hardware=who.hardware,
            slots=who.slots,
            compute=who.compute,
            busy=tuple(attempt.state() for attempt in self._attempts.all()),
            archives=self._services.cache.held(),
            warm=tuple(sorted(self._services.warm.warm_scenes())) if self._services.warm else (),
            tags=who.tags,
            archive_url=self._services.archive_url(),
            shared=self._services.cache.shares(),
            accepting=self.accepting and not self._leaving.is_set(),
            trouble=self.trouble or (health.trouble if health else ""),
            blender=health.blender.found.version if health else "",
            no_blender=health.blender.found.why_not if health else "",
            sandbox=self._services.sandbox.level.value,
            sandbox_note=self._services.sandbox.why_not_better,
            installation=who.installation,
            version=who.version,
        )

    def expect(self, lease_id: str, attempt: int) -> None:
        """An order arrived and waits for a thread."""
        self._attempts.expect(lease_id, attempt)

    def begin(self, lease_id: str, attempt: int) -> None:
        """An expected order has its thread; :meth:`carry_out` follows."""
        self._attempts.begin(lease_id, attempt)

    def wait_until_idle(self, seconds: float | None = None) -> bool:
        """Whether no attempt is under way; waits at most so many seconds, ``None``: as long as it takes."""
        return self._attempts.wait_until_idle(seconds)

    def cancel(self, signed: SignedMessage) -> bool:
        """Ends the attempt a cancel names, at once; ``False`` where it is not under way or the cancel is refused."""
        try:
            cancel = self._opener.cancel(signed)
        except ContractError:
            return False
        found = self._attempts.get(cancel.lease_id, cancel.attempt)
        if found:
            found.cancel_token.cancel("cancelled")
        return found is not None

    def leave(self) -> None:
        """Stops everything; takes up to :data:`LEAVING_GRACE_S` and a last word to the coordinator."""
        self._leaving.set()
        for attempt in self._attempts.all():
            if attempt.stage is not Stage.DELIVERING:
                attempt.cancel_token.cancel(LEAVING)
        self._on_change()
        if self._services.warm:
            self._services.warm.close()
        for order in self._attempts.take_expected():
            if not self._deliveries.give_back(*order):
                break  # a silent coordinator will notice by itself that this node has left
        if not self.wait_until_idle(LEAVING_GRACE_S):
            for attempt in self._attempts.all():
                attempt.cancel_token.cancel(LEAVING)

    def carry_out(self, signed: SignedMessage, on_slot: Callable[[], None] = lambda: None) -> None:
        """One order, to its end; ``on_slot`` is called when its renderer begins.

        Returns when the coordinator has the frame. Raises AttemptFailed (the coordinator knows) or AttemptDropped.
        """
        came_at = time.monotonic()
        order = self._opened(signed)
        attempt = Attempt(
            lease_id=order.lease_id,
            attempt=order.attempt,
            job_name=order.job_name,
            frame=order.frame,
            came_at=came_at,
            on_slot=on_slot,
        )
        with self._holding(attempt):
            try:
                self._through(order, attempt)
            except AttemptFailed as failed:
                self._look_at_health(failed.report.kind)
                self._deliveries.report(attempt, failed.report)
                raise
            except AttemptDropped as dropped:
                if attempt.cancel_token.reason == LEAVING and attempt.stage is not Stage.DELIVERING:
                    self._deliveries.give_back(attempt.lease_id, attempt.attempt)
                    raise AttemptFailed.because(FailureKind.NODE_LEAVING, LEAVING) from None
                log.info("%s is dropped: %s", attempt.label, dropped)
                raise

    def deliver_leftovers(self) -> None:
        """Delivers what an earlier process of this worker left in the outbox; returns when all is answered."""
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

    # The steps of an order, in its order.

    def _opened(self, signed: SignedMessage) -> RenderOrder:
        try:
            return self._opener.order(signed)
        except (ReplayedMessage, ExpiredMessage) as error:
            raise AttemptDropped(str(error)) from None
        except ContractError as error:
            self._on_forgery()
            raise AttemptFailed.because(FailureKind.BAD_ORDER, str(error)) from None

    def _look_at_health(self, kind: FailureKind) -> None:
        """Before the failure is told: a node in trouble says so first, and gets no more orders that would fail."""
        if self._services.health and cause_of(kind) is Cause.NODE:
            self._services.health.look_once()

    @contextmanager
    def _holding(self, attempt: Attempt) -> Generator[None]:
        with self._attempts.holding(attempt):
            if self._leaving.is_set():
                attempt.cancel_token.cancel(LEAVING)
            self._on_change()
            yield
        self._on_change()

    def _through(self, order: RenderOrder, attempt: Attempt) -> None:
        try:
            parcel = self._frame_of(order, attempt)
            self._enter(attempt, Stage.DELIVERING)
            self._deliveries.deliver(parcel, attempt)
        except (AttemptFailed, AttemptDropped):
            raise
        except Exception as error:
            raise AttemptFailed.because(*_failure_of(error)) from None
        log.info("%s delivered", attempt.label)

    def _ask_to_start(self, attempt: Attempt) -> StartAnswer:
        ask = self._services.coordinator.start
        try:
            return retry_while_unreachable(
                lambda: ask(attempt.lease_id, attempt.attempt, self.identity.node_id, attempt.claim),
                attempt.cancel_token,
            )
        except (StaleLease, CoordinatorFailed) as refused:
            raise AttemptDropped(str(refused)) from None
        except CoordinatorRefused as refused:
            raise AttemptFailed.because(FailureKind.INTERNAL, str(refused)) from None

    def _frame_of(self, order: RenderOrder, attempt: Attempt) -> Parcel:
        scratch = self._services.scratch / f"{order.lease_id}.{order.attempt}"
        cores = self.identity.cores or self.identity.hardware.cpu_cores
        try:
            rendered = self._renders.render(order, lambda: self._ask_to_start(attempt), attempt, scratch)
            keep = functools.partial(self._deliveries.keep, order, rendered, cores)
            return within(KEEP_WITHIN_S, keep, attempt.cancel_token, doing="taking the picture")
        finally:
            # Whatever a frame left there holds up no other one.
            threading.Thread(target=remove, args=(scratch,), name="scratch", daemon=True).start()

    def _enter(self, attempt: Attempt, stage: Stage) -> None:
        attempt.stage = stage
        self._on_change()


def _failure_of(error: Exception) -> tuple[FailureKind, str]:
    """The kind of failure and one line for a person."""
    if isinstance(error, BadArchive):
        return FailureKind.BAD_ARCHIVE, str(error)
    if isinstance(error, CacheDiskFull):
        return FailureKind.DISK_FULL, str(error)
    if isinstance(error, UnsafeFile):
        return FailureKind.NO_OUTPUT, f"what the renderer left cannot be taken: {error}"
    if isinstance(error, OSError) and is_disk_full(error):
        where = f", writing {error.filename}" if error.filename else ""
        return FailureKind.DISK_FULL, f"the disk of this PC is full{where}"
    if isinstance(error, OSError) and error.errno in THIS_PC:
        return FailureKind.FOLDER, f"{error.filename or 'a file of the worker'}: {os.strerror(error.errno)}"
    if isinstance(error, BadOrder):
        return FailureKind.BAD_ORDER, str(error)
    if isinstance(error, CoordinatorError):
        return FailureKind.NO_ARCHIVE, str(error)
    log.error("an attempt failed through a bug in sheepfold", exc_info=error)
    return FailureKind.INTERNAL, f"{type(error).__name__} on the node; its log has the traceback"
