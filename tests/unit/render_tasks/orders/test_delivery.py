"""What becomes of a picture at the coordinator."""

from __future__ import annotations

from pathlib import Path

import pytest

from render_tasks.blender.render_job import RenderedFrame
from render_tasks.errors import AttemptFailed, CoordinatorFailed, CoordinatorUnreachable
from render_tasks.orders.attempts import Attempt
from render_tasks.orders.delivery import Deliveries
from render_tasks.orders.outbox import Outbox, Parcel
from render_tasks.retry import FAILURES_AT_MOST
from sheepfold.contract.api_messages import FailureKind, FailureReport, FrameReport, StartAnswer
from tests.support.wire.contract_messages import ORDER


class Coordinator:
    """Raises these errors one after the other, then takes the frame."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.deliveries = list(errors), 0

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> StartAnswer:
        return StartAnswer()

    def deliver(self, lease_id: str, attempt: int, node_id: str, report: FrameReport, picture: Path) -> None:
        self.deliveries += 1
        assert picture.read_bytes() == b"picture"
        if self.errors:
            raise self.errors.pop(0)

    def fail(
        self, lease_id: str, attempt: int, node_id: str, report: FailureReport, *, timeout_s: float | None = None
    ) -> None:
        raise AssertionError("the node reports, not the delivery")


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setattr("render_tasks.retry.FIRST_WAIT_S", 0.0001)
    monkeypatch.setattr("render_tasks.retry.LONGEST_WAIT_S", 0.0001)
    return Outbox(tmp_path / "outbox")


@pytest.fixture
def attempt() -> Attempt:
    return Attempt(lease_id=ORDER.lease_id, attempt=1, job_name=ORDER.job_name, frame=ORDER.frame)


def keep_a_frame(deliveries: Deliveries, tmp_path: Path) -> Parcel:
    """A picture that a renderer left, in the outbox."""
    picture = tmp_path / "attempt" / "out" / "frame_0340.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    rendered = RenderedFrame(picture=picture, render_s=1, memory_kb=1, began_at=0, picture_at=1)
    return deliveries.keep(ORDER, rendered, 4)


def test_a_picture_over_which_the_coordinator_fails_again_and_again_fails_its_frame(
    outbox: Outbox, attempt: Attempt, tmp_path: Path
) -> None:
    coordinator = Coordinator(*[CoordinatorFailed("deliver")] * 100)
    deliveries = Deliveries(coordinator, outbox, "n1")
    with pytest.raises(AttemptFailed) as failed:
        deliveries.deliver(keep_a_frame(deliveries, tmp_path), attempt)
    assert coordinator.deliveries == FAILURES_AT_MOST
    assert failed.value.report.kind is FailureKind.BAD_PICTURE
    assert failed.value.report.reason.startswith("the coordinator failed 10 times over this picture (status 500")
    assert outbox.parcels() == []


def test_a_picture_is_kept_through_any_silence(outbox: Outbox, attempt: Attempt, tmp_path: Path) -> None:
    coordinator = Coordinator(*[CoordinatorUnreachable("deliver", "status 503")] * 100)
    deliveries = Deliveries(coordinator, outbox, "n1")
    parcel = keep_a_frame(deliveries, tmp_path)
    assert outbox.parcels() == [parcel]
    deliveries.deliver(parcel, attempt)
    assert coordinator.deliveries == 101
    assert outbox.parcels() == []
