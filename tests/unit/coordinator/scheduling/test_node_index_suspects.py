"""A frame that may be what takes nodes down gets one to itself."""

from __future__ import annotations

import dataclasses

from coordinator.leases.lease import Lease, LeaseState
from coordinator.scheduling.matching import PendingLease
from tests.support.coordinator.fakes import node
from tests.unit.coordinator.scheduling.test_node_index import GROUP, IndexHarness, lease, need


def suspect_lease(number: int = 900, **changes: object) -> Lease:
    return dataclasses.replace(lease(number, nodes_lost=2), **changes)


def nodes_for(index: IndexHarness, *leases: Lease) -> dict[str, str]:
    """Where these leases would go now."""
    wishes = [PendingLease(lease=frame, need=need(alone=frame.is_suspect), waited_s=0) for frame in leases]
    return index.match(wishes)


def test_a_suspect_goes_to_a_node_without_any_frame_and_no_frame_goes_beside_it() -> None:
    index = IndexHarness(node("n1", slots=2), node("n2", slots=2), look_ahead=3)
    index.orders("n1")
    frame, others = suspect_lease(), [lease(number) for number in range(1, 30)]
    found = nodes_for(index, frame, *others)
    assert found[frame.id] == "n2"
    assert {found[other.id] for other in others if other.id in found} == {"n1"}


def test_on_a_busy_farm_a_node_is_emptied_for_a_suspect() -> None:
    index = IndexHarness(node("n1", slots=2), node("n2", slots=2), look_ahead=3)
    busy, (last,) = index.orders("n1", 2), index.orders("n2")
    frame, others = suspect_lease(), [lease(number) for number in range(1, 30)]
    assert set(nodes_for(index, frame, *others).values()) == {"n1"}, "n2 gets no more"
    assert index.capacity(GROUP).places == 0
    index.delivers(busy[0])
    index.delivers(last)
    assert nodes_for(index, frame) == {frame.id: "n2"}


def test_a_node_is_open_to_others_again_when_the_suspect_has_left_or_waits_no_more() -> None:
    index = IndexHarness(node("n1"))
    (before,) = index.orders("n1")
    frame, other = suspect_lease(), lease(1)
    assert nodes_for(index, frame) == {}
    index.delivers(before)
    assert index.picks() is None, "it is kept empty"
    assert nodes_for(index, other) == {other.id: "n1"}, "the suspect was cancelled"
    index.release(other)
    assert nodes_for(index, frame) == {frame.id: "n1"}
    ordered = dataclasses.replace(frame, state=LeaseState.ORDERED, node_id="n1")
    index.on_lease_change(frame, ordered)
    assert index.picks() is None
    index.on_lease_change(ordered, dataclasses.replace(ordered, state=LeaseState.FAILED))
    assert index.picks() == "n1"


def test_a_frame_becomes_a_suspect_while_a_node_has_it_and_the_count_stays_right() -> None:
    index = IndexHarness(node("n1"))
    rendering = lease(1, "n1", state=LeaseState.RENDERING, nodes_lost=1)
    index.on_lease_change(None, rendering)
    index.on_lease_change(
        rendering, dataclasses.replace(rendering, state=LeaseState.GRANTED, nodes_lost=2, node_id=None)
    )
    assert index.picks() == "n1"


def test_two_suspects_never_share_a_node() -> None:
    index = IndexHarness(node("n1", slots=4))
    first, second = suspect_lease(1), suspect_lease(2)
    assert nodes_for(index, first, second) == {first.id: "n1"}


def test_a_suspect_finds_another_node_when_the_one_that_is_emptied_leaves() -> None:
    index = IndexHarness(node("n1"), node("n2"))
    index.orders("n1")
    (busy,) = index.orders("n2", 1)
    frame = suspect_lease()
    assert nodes_for(index, frame) == {}
    index.remove("n1")
    assert nodes_for(index, frame) == {}
    index.delivers(busy)
    assert nodes_for(index, frame) == {frame.id: "n2"}
