"""What nodes claim about leases: I start it, here is its picture, it failed. Every claim names its attempt.

A claim that names another attempt or another node than the ledger does is stale: the node is told to drop it, and
nothing changes. A claim that is repeated because its answer was lost is answered as the first one was.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from coordinator.leases.errors import LeaseError
from coordinator.leases.lease import ENDED, Delivery, Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_batch import Transition
from sheepfold.contract.api_messages import FailureKind, FailureReport, FrameReport, StartAnswer
from sheepfold.contract.failure_causes import Cause, cause_of
from sheepfold.limited.errors import ChildUnavailable

from .claim_listener import ClaimListener
from .errors import BrokenPicture, NotYourLease, StaleClaim
from .held_back import FrameBelief, HeldBackPictures
from .spool import Incoming, Spool, Spooled
from .validation import Verdict

log = logging.getLogger(__name__)

#: Kinds of failure that are nobody's fault: the lease goes back without an attempt being used up.
BLAMELESS = frozenset({FailureKind.NODE_LEAVING})
#: What is wrong with a scene is wrong on every PC: one more look is enough, however many attempts others have.
SCENE_ATTEMPTS = 2


class PictureValidator(FrameBelief, Protocol):
    """Whether a picture may go to the server (:class:`coordinator.delivery.validation.FrameValidator`)."""

    def validate(self, lease: Lease, path: Path, /) -> Verdict: ...


class Claims:
    """Checks claims against the ledger and carries them out."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        validator: PictureValidator,
        events: ClaimListener,
        *,
        attempts: int,
        is_frames_fault: Callable[[Lease, str], bool] = lambda _lease, _node_id: False,
    ) -> None:
        """``is_frames_fault`` says of what looks like a node's own trouble that it is the frame's after all."""
        self._is_frames_fault = is_frames_fault
        self._ledger, self._spool, self._validator, self._events = ledger, spool, validator, events
        self._attempts = attempts
        self._starts: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()
        #: Pictures that wait for a second opinion.
        self.held_back = HeldBackPictures(ledger, spool, validator, events, self.forget)

    def load(self) -> Claims:
        """Takes up pictures that were held back before a restart, once the ledger is loaded; returns itself."""
        self.held_back.load()
        return self

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> StartAnswer:
        """The start-fence: true once for each attempt.

        ``claim`` is a random word of the one execution that asks: the same word again is an answer that was lost,
        another word is an order delivered twice. Raises :class:`StaleClaim`.
        """
        with self._lock:
            lease = self._own(lease_id, attempt, node_id)
            if lease.state is LeaseState.RENDERING:
                if self._starts.setdefault(lease_id, (attempt, claim)) == (attempt, claim):
                    return _answer(lease)
                raise StaleClaim("this attempt was already started")
            try:
                lease = self._ledger.apply(lease_id, LeaseEvent.START, attempt=attempt)
            except LeaseError as error:
                raise StaleClaim(str(error)) from None
            self._starts[lease_id] = (attempt, claim)
            return _answer(lease)

    def deliver(self, lease_id: str, attempt: int, node_id: str, report: FrameReport, chunks: Iterable[bytes]) -> None:
        """Takes a picture that is here: :meth:`begin_delivery`, its bytes, :meth:`finish_delivery`.

        Raises what these raise, and whatever ``chunks`` raises.
        """
        incoming = self.begin_delivery(lease_id, attempt, node_id, report)
        if incoming is None:
            return
        try:
            for chunk in chunks:
                incoming.write(chunk)
            self.finish_delivery(lease_id, attempt, node_id, report, incoming)
        finally:
            incoming.discard()

    def begin_delivery(self, lease_id: str, attempt: int, node_id: str, report: FrameReport) -> Incoming | None:
        """Where a picture's bytes go, which its caller discards in the end; ``None`` where it was delivered before.

        Raises :class:`StaleClaim`, or what the spool raises.
        """
        lease = self._own(lease_id, attempt, node_id, delivering=True)
        if lease.state is not LeaseState.RENDERING:
            return None  # the answer was lost
        return self._spool.incoming(lease_id, attempt, Path(report.name).suffix)

    def finish_delivery(
        self, lease_id: str, attempt: int, node_id: str, report: FrameReport, incoming: Incoming
    ) -> None:
        """All bytes of a picture are there: to disk, looked at, into the ledger, in this order.

        One that is doubtful is taken as well, and held back. Raises :class:`StaleClaim`, :class:`BrokenPicture`, or
        what the spool raises; only a rejected frame counts as a failure.
        """
        lease = self._own(lease_id, attempt, node_id, delivering=True)
        if lease.state is not LeaseState.RENDERING:
            return  # delivered at the same time; the answer was lost
        stored = incoming.keep(md5=report.md5)
        try:
            verdict = self._validator.validate(lease, stored.path)
        except BrokenPicture as error:
            self._spool.discard(stored.name)
            self.fail(lease_id, attempt, node_id, FailureReport(kind=FailureKind.BAD_PICTURE, reason=str(error)))
            raise
        except ChildUnavailable:  # nothing is known of the picture: its node keeps it, and delivers it again
            self._spool.discard(stored.name)
            raise
        if verdict.doubt:
            self._hold_back(lease, report, stored, verdict)
            return
        lease = self._delivered(lease, report, stored, verdict)
        log.info("%s arrived, %d bytes, %.1f s", lease.label, stored.size, report.render_s)
        self._events.delivered(lease)
        if verdict.is_empty:
            self.held_back.believe_others(lease)

    def fail(self, lease_id: str, attempt: int, node_id: str, report: FailureReport) -> None:
        """An attempt is over without a picture: another node tries, or the frame is given up."""
        lease = self._own(lease_id, attempt, node_id, delivering=True)
        if lease.state not in (LeaseState.ORDERED, LeaseState.RENDERING):
            return  # its picture is here; whatever went wrong afterwards does not matter
        if report.kind in BLAMELESS:
            self._back(lease, LeaseEvent.RETRY, report)
            return
        cause = cause_of(report.kind)
        if cause is Cause.NODE and not self._is_frames_fault(lease, node_id):
            self._events.node_failed(lease, report)
            self._back(lease, LeaseEvent.RETRY, report)
            return
        self._events.failed(lease, report)
        if cause is Cause.SCENE:
            # First of all: a job that is put on hold now is ordered no more.
            self._events.scene_failed(lease, report)
        attempts = min(self._attempts, SCENE_ATTEMPTS) if cause is Cause.SCENE else self._attempts
        if lease.failures + 1 < attempts:
            self._back(lease, LeaseEvent.FAIL, report)
        else:
            self.give_up(lease, report)

    def take_back(self, lease: Lease, reason: str) -> None:
        """The coordinator takes an order back from its node, through nobody's fault."""
        self._back(lease, LeaseEvent.RETRY, FailureReport(kind=FailureKind.NODE_LEAVING, reason=reason))

    def node_lost(self, lease: Lease, reason: str) -> None:
        """Its node went down while it rendered: another one tries, from the second time on alone, and then no more."""
        if lease.is_suspect:
            self.give_up(lease, FailureReport(kind=FailureKind.NODES_DOWN, reason=_took_down(lease, reason)))
            return
        self._back(lease, LeaseEvent.NODE_LOST, FailureReport(kind=FailureKind.NODE_LEAVING, reason=reason))

    def give_up(self, lease: Lease, report: FailureReport) -> None:
        """The lease has failed for good."""
        self.give_up_all([lease], report)

    def give_up_all(self, leases: Sequence[Lease], report: FailureReport) -> None:
        """These leases have failed for good, for one reason; one transaction, however many they are."""
        steps = [
            Transition(lease_id=lease.id, event=LeaseEvent.GIVE_UP, attempt=lease.attempt, reason=_line(report))
            for lease in leases
        ]
        given_up: list[Lease] = []
        for lease, outcome in zip(leases, self._ledger.apply_many(steps), strict=True):
            if isinstance(outcome, LeaseError):
                log.info("%s was not given up: %s", lease.label, outcome)
                continue
            self.forget(lease.id)
            self.held_back.discard(lease)
            log.warning("%s failed: %s", lease.label, _line(report))
            given_up.append(outcome)
        if given_up:
            self._events.gave_up(given_up, report)

    def _delivered(self, lease: Lease, report: FrameReport, stored: Spooled, verdict: Verdict) -> Lease:
        after = self._arrived(lease, LeaseEvent.DELIVER, _delivery(report, stored, verdict))
        self.held_back.discard(lease)
        return after

    def _hold_back(self, lease: Lease, report: FrameReport, stored: Spooled, verdict: Verdict) -> None:
        """The picture stays in the spool, and the frame is rendered once more."""
        delivery = _delivery(report, stored, verdict)
        after = self._arrived(lease, LeaseEvent.HOLD_BACK, delivery, f"held back: {verdict.doubt}")
        self.held_back.add(lease.id)
        log.warning("%s is held back until a second render agrees: %s", lease.label, verdict.doubt)
        self._events.held_back(lease, verdict.doubt)
        # The frame next to it may have been believed while this one was looked at.
        self.held_back.believe_others(after)
        self._events.returned(after)

    def _arrived(self, lease: Lease, event: LeaseEvent, delivery: Delivery, reason: str = "") -> Lease:
        """The picture is in the spool and this is what it means; nothing of it is left where the claim came late."""
        try:
            after = self._ledger.apply(lease.id, event, attempt=lease.attempt, delivery=delivery, reason=reason)
        except LeaseError as error:
            now = self._ledger.get(lease.id)
            kept = (now.delivery, now.held_back and now.held_back.delivery)
            if delivery.picture not in [other.picture for other in kept if other]:
                self._spool.discard(delivery.picture)
            raise StaleClaim(str(error)) from None
        self.forget(lease.id)
        return after

    def _back(self, lease: Lease, event: LeaseEvent, report: FailureReport) -> None:
        try:
            lease = self._ledger.apply(lease.id, event, attempt=lease.attempt, reason=_line(report))
        except LeaseError as error:
            log.info("%s stays as it is: %s", lease.label, error)
            return
        self.forget(lease.id)
        log.warning("%s goes to another node (attempt %d): %s", lease.label, lease.attempt, _line(report))
        if event is LeaseEvent.NODE_LOST and lease.is_suspect:
            log.error("%s may be what takes PCs down: it is tried once more, on a PC with no other frame", lease.label)
        self._events.returned(lease)

    def forget(self, lease_id: str) -> None:
        """The attempt is over, whoever ended it."""
        with self._lock:
            self._starts.pop(lease_id, None)

    def _own(self, lease_id: str, attempt: int, node_id: str, *, delivering: bool = False) -> Lease:
        try:
            lease = self._ledger.get(lease_id)
        except LeaseError as error:
            raise StaleClaim(str(error)) from None
        if lease.attempt == attempt and lease.node_id is not None and lease.node_id != node_id:
            log.warning("%s: node %s claims an attempt that is another node's", lease.label, node_id)
            raise NotYourLease(lease.id)
        if lease.attempt != attempt or lease.node_id != node_id:
            raise StaleClaim(f"attempt {attempt} of this frame is no longer yours")
        arrived = lease.state in (LeaseState.DELIVERED, LeaseState.ACCEPTED, LeaseState.REFUSED)
        if (lease.state in ENDED or arrived) and not (delivering and arrived):
            raise StaleClaim(f"this frame is already {lease.state.value}")
        return lease


def _answer(lease: Lease) -> StartAnswer:
    return StartAnswer(scene_password=lease.offer.password or "")


def _delivery(report: FrameReport, stored: Spooled, verdict: Verdict) -> Delivery:
    return Delivery(
        picture=stored.name,
        size=stored.size,
        render_s=report.render_s,
        memory_kb=report.memory_kb,
        cores=report.cores,
        is_empty=verdict.is_empty,
        is_confirmed=verdict.is_confirmed,
    )


def _took_down(lease: Lease, reason: str) -> str:
    lost = lease.nodes_lost + 1
    return f"{lost} PCs went down while they rendered it, the last one with no other frame beside it ({reason})"


def _line(report: FailureReport) -> str:
    return f"{report.kind.value}: {report.reason}"
