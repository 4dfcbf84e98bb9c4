"""How an attempt ends at the coordinator: its frame is delivered, or its failure told.

A frame goes through the outbox, so it is on disk before the first try and stays there until the coordinator has given a
definite answer. A failure is told until the coordinator has heard it; if the worker ends before, the coordinator
notices by itself that the node no longer works on the lease.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from render_tasks.blender.output.image_format import HEAD_BYTES, suffix_of
from render_tasks.blender.runner import RenderedFrame
from render_tasks.errors import (
    AttemptDropped,
    AttemptFailed,
    CoordinatorError,
    CoordinatorFailed,
    CoordinatorRefused,
    CoordinatorUnreachable,
    FrameRejected,
    StaleLease,
)
from render_tasks.retry import FAILURES_AT_MOST, retry_while_unreachable
from sheepfold.contract.api_messages import FailureKind, FailureReport, FrameReport, StartAnswer
from sheepfold.contract.orders import RenderOrder
from sheepfold.digests import file_md5

from .attempts import Attempt
from .outbox import Outbox, Parcel

log = logging.getLogger(__name__)

#: The reason of a cancel when the node leaves.
LEAVING = "the node is leaving"
#: Seconds for a last word to the coordinator: it is there or it is not.
LAST_WORD_S = 1.5


class LeaseApi(Protocol):
    """What the node asks of the coordinator (:class:`render_tasks.coordinator_client.CoordinatorClient`)."""

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> StartAnswer: ...
    def deliver(self, lease_id: str, attempt: int, node_id: str, report: FrameReport, picture: Path) -> None: ...
    def fail(
        self, lease_id: str, attempt: int, node_id: str, report: FailureReport, *, timeout_s: float | None = None
    ) -> None: ...


class Deliveries:
    """Delivers pictures to the coordinator, and reports attempts without one."""

    def __init__(self, coordinator: LeaseApi, outbox: Outbox, node_id: str) -> None:
        self._coordinator, self._outbox, self._node_id = coordinator, outbox, node_id

    def keep(self, order: RenderOrder, rendered: RenderedFrame, cores: int) -> Parcel:
        """Takes a picture into the outbox. Raises UnsafeFile where it is no plain file, and OSError."""

        def describe(taken: Path) -> Parcel:
            report = FrameReport(
                name=_named(rendered.picture.name, taken),
                md5=file_md5(taken),
                render_s=rendered.render_s,
                memory_kb=rendered.memory_kb,
                cores=cores,
            )
            return Parcel(
                lease_id=order.lease_id,
                attempt=order.attempt,
                job_name=order.job_name,
                frame=order.frame,
                report=report,
            )

        return self._outbox.keep(rendered.picture, describe)

    def leftovers(self) -> list[Parcel]:
        """Frames that an earlier process of this worker kept."""
        return self._outbox.parcels()

    def deliver(self, parcel: Parcel, attempt: Attempt) -> None:
        """Returns when the coordinator has the frame. Raises AttemptDropped or AttemptFailed."""
        picture, deliver = self._outbox.picture(parcel), self._coordinator.deliver
        try:
            retry_while_unreachable(
                lambda: deliver(parcel.lease_id, parcel.attempt, self._node_id, parcel.report, picture),
                attempt.cancel_token,
            )
        except AttemptDropped:
            if attempt.cancel_token.reason == LEAVING:
                raise AttemptDropped("the frame is kept and delivered when this worker starts again") from None
            self._outbox.discard(parcel)
            raise
        except (CoordinatorError, OSError) as error:
            self._outbox.discard(parcel)
            raise _outcome_of(error) from None
        self._outbox.discard(parcel)

    def report(self, attempt: Attempt, report: FailureReport) -> None:
        """Tells the coordinator why there is no picture."""
        log.warning("%s failed: %s: %s", attempt.label, report.kind.value, report.reason)
        try:
            retry_while_unreachable(
                lambda: self._coordinator.fail(attempt.lease_id, attempt.attempt, self._node_id, report),
                attempt.cancel_token,
            )
        except (CoordinatorError, AttemptDropped) as error:
            log.info("%s: its failure was not reported: %s", attempt.label, error)

    def give_back(self, lease_id: str, attempt: int) -> bool:
        """A last word before the node leaves; ``False`` when the coordinator is silent."""
        report = FailureReport(kind=FailureKind.NODE_LEAVING, reason=LEAVING)
        try:
            self._coordinator.fail(lease_id, attempt, self._node_id, report, timeout_s=LAST_WORD_S)
        except CoordinatorError as error:
            log.info("the coordinator was not told that lease %s goes back: %s", lease_id, error)
            return not isinstance(error, CoordinatorUnreachable)
        return True


def _named(name: str, taken: Path) -> str:
    """The picture's file name, which has a suffix."""
    if Path(name).suffix:
        return name
    with taken.open("rb") as file:
        return name + suffix_of(file.read(HEAD_BYTES))


def _outcome_of(error: Exception) -> AttemptFailed | AttemptDropped:
    """What a definite answer to a delivery means for the attempt."""
    if isinstance(error, StaleLease):
        return AttemptDropped(str(error))
    if isinstance(error, CoordinatorFailed):
        reason = f"the coordinator failed {FAILURES_AT_MOST} times over this picture ({error.reason})"
        return AttemptFailed.because(FailureKind.BAD_PICTURE, reason)
    if isinstance(error, (FrameRejected, CoordinatorRefused)):
        return AttemptFailed.because(FailureKind.BAD_PICTURE, str(error))
    return AttemptFailed.because(FailureKind.INTERNAL, f"the kept frame is gone: {type(error).__name__}")
