"""PCs with trouble of their own are paused, told once, and tried again."""

from __future__ import annotations

import logging

import pytest

from coordinator.leases.lease import Lease
from coordinator.leases.ledger import Ledger
from coordinator.nodes.pauses import TAKES_NOTHING, TOLD_AT_ONCE, NodePauses
from sheepfold.contract.api_messages import FailureKind, FailureReport
from tests.support.clocks import ManualClock
from tests.support.coordinator.builders import offer, rendering
from tests.support.coordinator.fakes import node

FULL = FailureReport(kind=FailureKind.DISK_FULL, reason="the disk of this PC is full")


class DoublingWaits:
    """5, 10, 20 ... seconds."""

    def __init__(self) -> None:
        self._next_s = 5.0

    def next(self) -> float:
        wait_s, self._next_s = self._next_s, self._next_s * 2
        return wait_s


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pauses(clock: ManualClock) -> NodePauses:
    return NodePauses(DoublingWaits, clock=clock)


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    return rendering(ledger)


def test_a_pause_ends_and_the_next_one_is_longer_until_a_picture_comes(
    pauses: NodePauses, lease: Lease, clock: ManualClock
) -> None:
    for wait_s in (5, 10, 20):
        assert pauses.failed(lease, "n1", "pc1", FULL)
        assert not pauses.failed(lease, "n1", "pc1", FULL), "frames in hand fail in the same pause"
        clock.now += wait_s - 0.1
        assert pauses.is_paused("n1")
        clock.now += 0.1
        assert not pauses.is_paused("n1")
    pauses.succeeded(lease)
    pauses.failed(lease, "n1", "pc1", FULL)
    clock.now += 5
    assert not pauses.is_paused("n1")


def test_the_operator_is_told_once_with_what_to_do(
    pauses: NodePauses, lease: Lease, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(4):
        pauses.failed(lease, "n1", "pc1", FULL)
        clock.now += 1000
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].endswith(
        "disk full: the disk of this PC is full: free some space on the disk of its work folder"
    )


def test_a_pc_that_says_its_trouble_gets_nothing_until_it_says_that_it_is_mended(
    pauses: NodePauses, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    pauses.failed(lease, "n1", "pc1", FULL)
    caplog.clear()
    for _ in range(3):
        pauses.follow({"n1": node(trouble="disk full: make room in /work")})
    assert pauses.reason("n1") == "disk full: make room in /work"
    assert [record.message for record in caplog.records] == ["n1 takes nothing: disk full: make room in /work"]
    pauses.follow({"n1": node()})
    assert not pauses.is_paused("n1"), "its word counts for more than the wait that was left"
    assert pauses.reason("n1") == ""


def test_a_pc_that_never_said_it_is_in_trouble_waits_to_the_end(pauses: NodePauses, lease: Lease) -> None:
    pauses.follow({"n1": node()})
    pauses.failed(lease, "n1", "pc1", FULL)
    pauses.follow({"n1": node()})
    assert pauses.is_paused("n1")


def test_a_missing_blender_is_told_once(pauses: NodePauses, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        pauses.follow({"n1": node(no_blender="no blender on PATH")})
    assert [record.message for record in caplog.records] == [
        "n1 gets only jobs that bring their own renderer: no blender on PATH"
    ]
    assert not pauses.is_paused("n1")


def test_a_frame_that_a_pc_fails_again_after_it_made_others_is_the_trouble_itself(
    pauses: NodePauses, ledger: Ledger, lease: Lease, clock: ManualClock
) -> None:
    pauses.failed(lease, "n1", "pc1", FULL)
    assert not pauses.is_frames_fault(lease, "n1")
    pauses.succeeded(rendering(ledger, "0013", "n2"))
    assert not pauses.is_frames_fault(lease, "n1"), "that was another PC"
    pauses.succeeded(rendering(ledger, "0014", "n1"))
    assert pauses.is_frames_fault(lease, "n1")
    assert not pauses.is_frames_fault(ledger.grant(offer("0015"), "s"), "n1")
    pauses.ended(lease)
    assert not pauses.is_frames_fault(lease, "n1")


def test_how_long_a_frame_has_had_trouble_counts_from_its_first_time(
    pauses: NodePauses, lease: Lease, clock: ManualClock
) -> None:
    assert pauses.troubled_s(lease) == 0
    for _ in range(3):
        pauses.failed(lease, "n1", "pc1", FULL)
        clock.now += 100
    assert pauses.troubled_s(lease) == 300


def test_the_reasons_of_a_large_farm_are_one_line(pauses: NodePauses) -> None:
    present = {f"n{number}": node(f"n{number}", trouble="disk full") for number in range(TOLD_AT_ONCE + 2)}
    pauses.follow(present)
    assert pauses.summary(present) == "n0: disk full; n1: disk full; n2: disk full; and 2 more"
    assert pauses.summary({"n9": node("n9")}) == ""


def test_a_pc_that_takes_nothing_is_paused_until_it_takes_what_lies_in_its_queue(
    pauses: NodePauses, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pauses.takes_nothing("n1", "pc1", 3)
    pauses.takes_nothing("n1", "pc1", 4)
    clock.now += 24 * 3600
    assert pauses.is_paused("n1")
    assert not pauses.is_paused("n2")
    assert pauses.reason("n1") == TAKES_NOTHING
    assert pauses.summary({"n1": node("n1", name="pc1")}) == f"pc1: {TAKES_NOTHING}"
    pauses.takes_orders("n1")
    pauses.takes_orders("n1")
    assert (pauses.is_paused("n1"), pauses.reason("n1")) == (False, "")
    assert [record.message for record in caplog.records] == [
        "pc1 answers and takes no orders, 3 wait in its queue: they go to other PCs",
        "pc1 takes orders again",
    ]


@pytest.mark.parametrize("name", ["pc1", "n1"])
def test_an_operator_may_let_it_have_orders_again(pauses: NodePauses, name: str) -> None:
    pauses.takes_nothing("n1", "pc1", 3)
    assert not pauses.lift("another")
    assert pauses.lift(name)
    assert pauses.stalled() == frozenset()


def test_a_pc_that_left_is_no_longer_one_that_takes_nothing(pauses: NodePauses) -> None:
    pauses.takes_nothing("n1", "pc1", 3)
    pauses.follow({"n1": node("n1"), "n2": node("n2")})
    assert pauses.stalled() == {"n1"}
    pauses.follow({"n2": node("n2")})
    assert pauses.stalled() == frozenset()


def test_what_a_pc_says_of_itself_is_told_before_what_is_seen_of_it(pauses: NodePauses) -> None:
    pauses.takes_nothing("n1", "pc1", 3)
    pauses.follow({"n1": node("n1", trouble="this PC belongs to farm f1")})
    assert pauses.reason("n1") == "this PC belongs to farm f1"
