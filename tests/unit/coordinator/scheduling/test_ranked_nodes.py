"""Nodes in the order of choice, by what they have open or hold, and those that one frame has to itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from coordinator.leases.lease import Lease
from coordinator.scheduling.matching import Requirements
from coordinator.scheduling.ranked_nodes import FEW, ExclusiveNodes, RankedNodes
from sheepfold.contract.presence import Compute, Presence
from sheepfold.protocol.messages import ComputeMethod
from tests.support.coordinator.builders import offer
from tests.support.coordinator.fakes import node

GROUP, OTHER_GROUP = "farm:linux/64bit", "farm:windows/64bit"
SCENE, RENDERER, OTHER_SCENE = "a" * 32, "b" * 32, "c" * 32
NEED = Requirements(use_gpu=False, scene_key=SCENE, renderer_md5=RENDERER)
SUSPECT = Lease(id="s", session_key=GROUP, offer=offer(), nodes_lost=2)


def ranked(*nodes: Presence, look_ahead: int = 0) -> RankedNodes:
    made = RankedNodes(look_ahead=look_ahead)
    for presence in nodes:
        made.put(presence, GROUP)
    return made


def order(nodes: RankedNodes, node_id: str, by: int = 1, scene: str | None = None, *, is_suspect: bool = False) -> None:
    nodes.count(node_id, by, scene, is_suspect=is_suspect)


def free(nodes: RankedNodes, group: str = GROUP) -> list[str]:
    return [rank[-1] for rank in nodes.group(group).free]


def waiting(nodes: RankedNodes, group: str = GROUP) -> list[str]:
    return [rank[-1] for rank in nodes.group(group).waiting]


def tiers(nodes: RankedNodes, need: Requirements = NEED, *, may_be_cold: bool = True) -> list[set[str] | None]:
    return [None if tier is None else set(tier) for tier in nodes.by_warmth(need, may_be_cold=may_be_cold)]


# The order of choice


def test_the_least_busy_come_first_then_the_strongest_then_by_name() -> None:
    nodes = ranked(
        node("b", slots=2),
        node("a", slots=2),
        node("strong", slots=2, hardware={"cpu_cores": 64}),
        node("busy", slots=2, hardware={"cpu_cores": 128}),
    )
    order(nodes, "busy")
    assert free(nodes) == ["strong", "a", "b", "busy"]


def test_a_node_goes_from_free_to_waiting_to_full_and_back() -> None:
    nodes, seen = ranked(node("n1", slots=1), look_ahead=1), []
    for by in (0, 1, 1, -1, -1):
        order(nodes, "n1", by)
        seen.append((free(nodes), waiting(nodes)))
    assert seen == [(["n1"], []), ([], ["n1"]), ([], []), ([], ["n1"]), (["n1"], [])]


def test_places_are_counted_by_what_the_server_may_be_asked_for() -> None:
    gpus = {"gpus": ("RTX",)}
    nodes = ranked(node("cpu", slots=2), node("both", slots=3, compute=Compute.BOTH, hardware=gpus), look_ahead=1)
    order(nodes, "cpu", 3)
    assert nodes.group(GROUP).places == {ComputeMethod.CPU_ONLY: 1, ComputeMethod.CPU_OR_GPU: 6}
    nodes.remove("both")
    assert nodes.group(GROUP).places[ComputeMethod.CPU_OR_GPU] == 0


def test_a_later_record_takes_the_place_of_the_one_before() -> None:
    nodes = ranked(node("n1", slots=1))
    nodes.put(node("n1", slots=2), OTHER_GROUP)
    assert (free(nodes), free(nodes, OTHER_GROUP)) == ([], ["n1"])
    nodes.put(node("n1", slots=2, accepting=False), OTHER_GROUP)
    assert free(nodes, OTHER_GROUP) == []
    assert nodes.nodes["n1"].presence.slots == 2


def test_what_a_node_that_left_has_under_way_still_counts_when_it_is_back() -> None:
    nodes = ranked(node("n1", archives=(SCENE,), warm=(SCENE,)))
    order(nodes, "n1", scene=SCENE)
    nodes.remove("n1")
    nodes.remove("n1")
    assert tiers(nodes) == [set(), set(), set(), None]
    order(nodes, "n1", -1)
    order(nodes, "n1")
    nodes.put(node("n1"), GROUP)
    assert free(nodes) == []


def test_a_node_with_slow_frames_holds_none_beside_its_slots() -> None:
    nodes = ranked(node("n1"), look_ahead=1)
    nodes.note_render("n1", 300.0)
    order(nodes, "n1")
    assert (free(nodes), waiting(nodes)) == ([], [])


# Warmth


def test_the_warmest_come_first_and_the_cold_only_where_they_may() -> None:
    nodes = ranked(
        node("open", warm=(SCENE,), archives=(SCENE, RENDERER)),
        node("unpacked", archives=(SCENE,)),
        node("renderer", archives=(RENDERER,)),
        node("none"),
    )
    assert tiers(nodes) == [{"open"}, {"open", "unpacked"}, {"open", "renderer"}, None]
    assert tiers(nodes, may_be_cold=False) == [{"open"}]
    nodes.put(node("unpacked", archives=(OTHER_SCENE,)), GROUP)
    assert tiers(nodes)[1] == {"open"}


def test_what_was_ordered_last_is_what_a_busy_node_will_have_open() -> None:
    nodes = ranked(node("n1", slots=2, warm=(SCENE,)))
    for scene in (SCENE, OTHER_SCENE, OTHER_SCENE):
        order(nodes, "n1", scene=scene)
    assert nodes.nodes["n1"].warm == {OTHER_SCENE}, "as many as it has slots"
    assert tiers(nodes)[0] == set()
    order(nodes, "n1", -3)
    assert nodes.nodes["n1"].warm == {SCENE}, "with nothing to do it knows best"
    nodes.put(node("n1", slots=2), GROUP)
    assert nodes.nodes["n1"].warm == {OTHER_SCENE}, "and where it says nothing, the orders do"


# The first that may have it


def test_the_first_is_the_one_first_in_the_order_that_holds_it_can_render_it_and_was_not_tried() -> None:
    nodes = ranked(node("a"), node("b"), node("c"), node("d", hardware={"ram": 1}))
    tier = nodes.group(GROUP).free
    assert nodes.first(tier, None, NEED, ()) == "a"
    assert nodes.first(tier, None, NEED, ("a",)) == "b"
    assert nodes.first(tier, {"c", "b", "gone"}, NEED, ("a",)) == "b"
    assert nodes.first(tier, {"d"}, dataclasses.replace(NEED, min_ram=2), ()) is None
    assert nodes.first(tier, set(), NEED, ()) is None
    assert nodes.first([], None, NEED, ()) is None


def test_a_holder_of_another_tier_or_group_is_not_the_first() -> None:
    nodes = ranked(*map(node, "abcde"), look_ahead=1)
    nodes.put(node("windows"), OTHER_GROUP)
    order(nodes, "a")
    assert nodes.first(nodes.group(GROUP).free, {"a", "windows"}, NEED, ()) is None
    assert nodes.first(nodes.group(GROUP).waiting, {"a", "windows"}, NEED, ()) == "a"


@pytest.mark.parametrize("holders", [FEW, FEW + 1, 2 * FEW])
def test_few_holders_and_many_give_the_same_first(holders: int) -> None:
    names = [f"n{number:02}" for number in range(2 * FEW)]
    nodes = ranked(*map(node, names))
    held = set(names[-holders:])
    tier = nodes.group(GROUP).free
    assert nodes.first(tier, held, NEED, ()) == names[-holders]
    assert nodes.first(tier, held, NEED, held - {names[-1]}) == names[-1]


# Frames that get a node to themselves


def test_a_node_without_a_frame_is_taken_for_a_suspect_and_then_closed_to_others() -> None:
    nodes = ranked(node("busy"), node("empty"))
    order(nodes, "busy")
    assert nodes.empty_node(NEED, SUSPECT) == "empty"
    order(nodes, "empty", is_suspect=True)
    nodes.put(node("empty", slots=4), GROUP)
    assert free(nodes) == []
    order(nodes, "empty", -1, is_suspect=True)
    assert free(nodes) == ["empty"]


def test_where_all_are_busy_the_least_busy_is_closed_until_it_is_empty_or_the_suspect_waits_no_more() -> None:
    nodes = ranked(node("a", slots=4), node("b", slots=4))
    order(nodes, "a", 2)
    order(nodes, "b", 1)
    assert nodes.empty_node(NEED, SUSPECT) is None
    assert free(nodes) == ["a"]
    order(nodes, "a", -1)
    order(nodes, "b", 1)
    assert nodes.empty_node(NEED, SUSPECT) is None
    assert free(nodes) == ["a"], "it does not change its mind"
    order(nodes, "b", -2)
    assert nodes.empty_node(NEED, SUSPECT) == "b"
    nodes.stop_emptying_but_for(["s"])
    assert free(nodes) == ["a"]
    nodes.stop_emptying_but_for([])
    assert free(nodes) == ["b", "a"]


@pytest.mark.parametrize(
    "wrong",
    [{"accepting": False}, {"compute": Compute.GPU, "hardware": {"gpus": ("RTX",)}}],
    ids=["takes nothing", "cannot render it"],
)
def test_a_node_that_could_not_have_the_suspect_is_not_emptied_for_it(wrong: dict[str, Any]) -> None:
    nodes = ranked(node("n1", **wrong))
    nodes.put(node("windows"), OTHER_GROUP)
    assert nodes.empty_node(NEED, SUSPECT) is None


def test_a_suspect_goes_to_a_node_that_did_not_fail_it_while_there_is_one() -> None:
    nodes, tried_a = ranked(node("a"), node("b")), dataclasses.replace(NEED, tried=("a",))
    assert nodes.empty_node(tried_a, SUSPECT) == "b"
    order(nodes, "b", is_suspect=True)
    assert nodes.empty_node(tried_a, SUSPECT) == "a", "one suspect a node"


def test_a_node_is_closed_while_it_has_a_suspect_and_while_it_is_emptied() -> None:
    exclusive = ExclusiveNodes()
    exclusive.count("n1", 1)
    assert (exclusive.is_closed("n1"), exclusive.has_suspect("n1"), exclusive.is_closed("n2")) == (True, True, False)
    exclusive.count("n1", -1)
    assert not exclusive.is_closed("n1")
    exclusive.empty("n2", "lease")
    assert (exclusive.is_closed("n2"), exclusive.has_suspect("n2"), exclusive.emptied_for("lease")) == (
        True,
        False,
        "n2",
    )
    assert exclusive.keep_only(["lease", "another"]) == set()
    assert exclusive.keep_only(["another"]) == {"n2"}
    assert not exclusive.is_closed("n2")
    assert exclusive.emptied_for("lease") is None
