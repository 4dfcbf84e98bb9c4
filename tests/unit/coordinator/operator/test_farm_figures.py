"""Counts and pace, as a person understands them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.leases.lease import Lease, LeaseState
from coordinator.operator.farm_figures import Pace, frame_counts
from sheepfold.contract.presence import Stage
from tests.support.coordinator.builders import offer
from tests.support.coordinator.fakes import node, slot


def lease(id_: str) -> Lease:
    return Lease(id=id_, session_key="k", offer=offer())


NONE = dict.fromkeys(LeaseState, 0)


def test_what_waits_at_a_pc_is_ready_and_not_rendering() -> None:
    pc = replace(
        node("n1"), slots=1, busy=(slot(lease("a"), stage=Stage.RENDERING), slot(lease("b"), stage=Stage.WAITING))
    )
    counts = frame_counts(NONE | {LeaseState.RENDERING: 2, LeaseState.ORDERED: 1, LeaseState.GRANTED: 4}, [pc])
    assert (counts["rendering"], counts["ready"], counts["waiting"]) == (1, 2, 4)


def test_no_more_is_rendering_than_a_pc_has_slots_or_the_ledger_has_leases() -> None:
    pc = replace(
        node("n1"), slots=1, busy=(slot(lease("a"), stage=Stage.RENDERING), slot(lease("b"), stage=Stage.RENDERING))
    )
    assert frame_counts(NONE | {LeaseState.RENDERING: 2}, [pc])["rendering"] == 1
    assert frame_counts(NONE, [pc])["rendering"] == 0


def accepted_at(*times: float) -> Pace:
    pace = Pace()
    before = Lease(id="1", session_key="k", offer=offer(), state=LeaseState.DELIVERED)
    for at in times:
        pace.follow(before, replace(before, state=LeaseState.ACCEPTED, changed_at=at))
    return pace


@pytest.mark.parametrize(("left", "eta_s"), [(None, None), (0, 0), (30, 300)])
def test_the_time_left_follows_from_the_last_frames(left: int | None, eta_s: float | None) -> None:
    assert accepted_at(0, 10, 20, 30, 40).eta_s(left, now=50) == eta_s


def test_one_frame_or_yesterdays_frames_are_no_pace() -> None:
    assert accepted_at(10).eta_s(30, now=20) is None
    assert accepted_at(0, 10, 20, 30, 40).eta_s(30, now=90_000) is None


def test_a_farm_that_stands_still_needs_longer_and_longer() -> None:
    pace = accepted_at(0, 10, 20)
    assert pace.eta_s(10, now=300) == pytest.approx(1000)
