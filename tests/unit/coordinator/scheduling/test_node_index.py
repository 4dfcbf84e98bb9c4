"""Which node gets which offer."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.leases.lease import Delivery, Lease, LeaseState
from coordinator.scheduling.matching import Capacity, ColdStart, Requirements
from coordinator.scheduling.node_index import NodeIndex
from sheepfold.contract.presence import Compute, Presence, Stage
from sheepfold.protocol.messages import ComputeMethod, RendererOffer
from tests.support.coordinator.builders import offer
from tests.support.coordinator.fakes import node, slot

SCENE, RENDERER, OTHER = "a" * 32, "b" * 32, "c" * 32
NEED = Requirements(use_gpu=False, scene_key=SCENE, renderer_md5=RENDERER)
GROUP = "farm:linux/64bit"
GB = 1024**3


def need(**changes: Any) -> Requirements:
    return dataclasses.replace(NEED, **changes)


def lease(number: int, node_id: str | None = None, *, scene: str = SCENE, **changes: Any) -> Lease:
    """A lease as the ledger would have it; with a node it is ordered there."""
    renderer = RendererOffer(md5=RENDERER, command_line=".e -b .c -o .o -f .f", update_method="")
    values: dict[str, Any] = {
        "id": f"{number:032x}",
        "session_key": GROUP,
        "offer": offer(f"{number:04}", archive_md5=scene, renderer=renderer),
        "state": LeaseState.ORDERED if node_id else LeaseState.GRANTED,
        "node_id": node_id,
    }
    return Lease(**values | changes)


class IndexHarness(NodeIndex):
    """An index that a test fills."""

    def __init__(self, *nodes: Presence, look_ahead: int = 0) -> None:
        super().__init__(look_ahead=look_ahead)
        self._number = 0
        for presence in nodes:
            self.upsert(presence, GROUP)

    def orders(self, node_id: str, times: int = 1, *, scene: str = SCENE) -> list[Lease]:
        """Leases that the ledger says went there."""
        leases = []
        for _ in range(times):
            self._number += 1
            leases.append(lease(self._number, node_id, scene=scene))
            self.on_lease_change(lease(self._number, scene=scene), leases[-1])
        return leases

    def delivers(self, ordered: Lease, render_s: float = 10.0) -> None:
        """Its picture is here."""
        delivery = Delivery(picture="x.png", size=1, render_s=render_s, memory_kb=1, cores=1)
        rendering = dataclasses.replace(ordered, state=LeaseState.RENDERING)
        self.on_lease_change(ordered, rendering)
        self.on_lease_change(rendering, dataclasses.replace(rendering, state=LeaseState.DELIVERED, delivery=delivery))

    def picks(self, what: Requirements = NEED, cold: ColdStart = ColdStart.ANYWHERE) -> str | None:
        return self.choose(what, GROUP, cold)


def test_nobody_there_means_nobody_chosen() -> None:
    assert IndexHarness().picks() is None


@pytest.mark.parametrize(
    "wrong", [{"hardware": {"ram": 1024}}, {"accepting": False}, {"tags": ("night",)}, {"compute": Compute.GPU}]
)
def test_a_node_that_cannot_render_the_frame_is_never_chosen(wrong: dict[str, Any]) -> None:
    index = IndexHarness(node("n1", **{"tags": ("fast",), **wrong}))
    assert index.picks(need(min_ram=8 * GB, tags=frozenset({"fast"}))) is None


def test_a_node_of_another_session_is_never_chosen() -> None:
    index = IndexHarness()
    index.upsert(node("w", hardware={"os": "windows"}), "farm:windows/64bit")
    assert index.picks() is None
    assert index.choose(NEED, "farm:windows/64bit") == "w"


def test_a_node_has_all_the_tags_a_job_asks_for() -> None:
    index = IndexHarness(node("half", tags=("fast",)), node("whole", tags=("night", "fast", "new")))
    assert index.picks(need(tags=frozenset({"fast", "night"}))) == "whole"
    assert index.picks(need(tags=frozenset({"fast", "gone"}))) is None


@pytest.mark.parametrize(
    ("use_gpu", "compute", "gpus", "fits"),
    [
        (False, Compute.CPU, (), True),
        (False, Compute.BOTH, (), True),
        (False, Compute.GPU, ("RTX",), False),
        (True, Compute.CPU, ("RTX",), False),
        (True, Compute.BOTH, ("RTX",), True),
        (True, Compute.BOTH, (), False),
        (True, Compute.GPU, (), True),
    ],
)
def test_gpu_frames_go_to_gpus_and_cpu_frames_to_cpus(
    use_gpu: bool, compute: Compute, gpus: tuple[str, ...], fits: bool
) -> None:
    index = IndexHarness(node("n1", compute=compute, hardware={"gpus": gpus}))
    assert index.picks(need(use_gpu=use_gpu)) == ("n1" if fits else None)


def test_a_node_that_failed_the_lease_is_the_last_choice_and_still_one() -> None:
    index = IndexHarness(node("n1", archives=(SCENE, RENDERER)), node("n2"))
    assert index.picks(need(tried=("n1",))) == "n2"
    index.remove("n2")
    assert index.picks(need(tried=("n1",))) == "n1"


def test_a_frame_that_failed_waits_for_a_busy_node_that_has_not_failed_it() -> None:
    index = IndexHarness(node("n1"), node("n2"))
    index.orders("n2")
    assert index.picks(need(tried=("n1",))) is None


def test_a_free_slot_beats_a_warm_queue() -> None:
    index = IndexHarness(node("warm", warm=(SCENE,), archives=(SCENE, RENDERER)), node("cold"), look_ahead=1)
    index.orders("warm")
    assert index.picks() == "cold"


def test_an_open_scene_beats_a_cached_one_which_beats_the_renderer_which_beats_nothing() -> None:
    cold = node("cold", hardware={"cpu_cores": 64})
    cached, renderer = node("cached", archives=(SCENE,)), node("renderer", archives=(RENDERER,))
    warm = node("warm", warm=(SCENE,), hardware={"cpu_cores": 1})
    assert IndexHarness(cold, renderer, cached, warm).picks() == "warm"
    assert IndexHarness(cold, renderer, cached).picks() == "cached"
    assert IndexHarness(cold, renderer).picks() == "renderer"


def test_what_a_node_has_open_is_what_was_ordered_there_last() -> None:
    index = IndexHarness(node("a", warm=(OTHER,)), node("b", warm=(OTHER,)), look_ahead=1)
    index.orders("b", scene=SCENE)
    index.orders("a", scene=OTHER)
    assert index.picks(NEED) == "b", "its record does not say so yet"
    assert index.picks(need(scene_key=OTHER)) == "a"


def test_a_node_with_two_slots_has_two_scenes_open() -> None:
    index = IndexHarness(node("two", slots=2), node("one"), look_ahead=2)
    index.orders("two", scene=OTHER)
    index.orders("two", scene=SCENE)
    index.orders("one", scene="d" * 32)
    assert index.picks(need(scene_key=OTHER)) == "two"
    assert index.picks(need(scene_key=SCENE)) == "two"


def test_a_frame_may_be_told_to_go_where_its_scene_is_open_or_nowhere() -> None:
    index = IndexHarness(node("cold", archives=(SCENE,)), node("busy", warm=(SCENE,)), look_ahead=1)
    index.orders("busy")
    assert index.picks(NEED, ColdStart.NOWHERE) is None, "the warm one has no free slot"
    index.upsert(node("free", warm=(SCENE,)), GROUP)
    assert index.picks(NEED, ColdStart.NOWHERE) == "free"


def test_a_frame_may_be_told_not_to_wait_behind_another_scene() -> None:
    index = IndexHarness(node("other"), look_ahead=1)
    index.orders("other", scene=OTHER)
    assert index.picks(NEED, ColdStart.IN_A_FREE_SLOT) is None
    assert index.picks(NEED, ColdStart.ANYWHERE) == "other"
    assert index.picks(need(scene_key=OTHER), ColdStart.IN_A_FREE_SLOT) == "other", "its scene is open there"


def test_the_least_busy_for_its_slots_wins_then_the_most_cores() -> None:
    index = IndexHarness(node("half", slots=2), node("quarter", slots=4))
    index.orders("half", scene=OTHER)
    index.orders("quarter", scene=OTHER)
    assert index.picks() == "quarter"
    assert (
        IndexHarness(node("small", hardware={"cpu_cores": 4}), node("big", hardware={"cpu_cores": 32})).picks() == "big"
    )


def test_look_ahead_gives_each_node_that_many_orders_beyond_its_slots() -> None:
    full = IndexHarness(node("n1", slots=2))
    full.orders("n1", 2)
    assert full.picks() is None
    ahead = IndexHarness(node("n1", slots=2), look_ahead=1)
    ahead.orders("n1", 3)
    assert ahead.picks() == "n1"
    ahead.orders("n1")
    assert ahead.picks() is None


def test_short_frames_are_held_ready_one_more_and_slow_ones_not_at_all() -> None:
    index = IndexHarness(node("n1"), look_ahead=1)
    [first] = index.orders("n1")
    index.delivers(first, render_s=0.2)
    assert index.capacity(GROUP).places == 3
    for _ in range(30):
        index.delivers(index.orders("n1")[0], render_s=300)
    assert index.capacity(GROUP).places == 1


def test_a_slow_frame_that_is_nearly_done_makes_room_for_the_next() -> None:
    index = IndexHarness(node("n1"), look_ahead=1)
    for _ in range(30):
        index.delivers(index.orders("n1")[0], render_s=300)
    [under_way] = index.orders("n1")
    for remaining_s, places in ((200.0, 0), (59.0, 1)):
        state = slot(under_way, Stage.RENDERING, remaining_s=remaining_s)
        index.upsert(node("n1", busy=(state,)), GROUP)
        assert index.capacity(GROUP).places == places


def test_room_counts_what_may_be_placed_where() -> None:
    index = IndexHarness(
        node("cpu", slots=2),
        node("gpu", compute=Compute.GPU),
        node("both", compute=Compute.BOTH, hardware={"gpus": ("RTX",)}, slots=3),
        node("resting", accepting=False),
    )
    assert index.capacity(GROUP) == Capacity(cpu_only=2, gpu_only=1, either=3)
    index.orders("cpu", 2)
    index.orders("both")
    assert index.capacity(GROUP) == Capacity(gpu_only=1, either=2)
    index.remove("gpu")
    assert index.capacity(GROUP) == Capacity(either=2)
    assert index.capacity("farm:mac/64bit") == Capacity()


def test_a_choice_counts_before_the_ledger_says_so_and_not_twice() -> None:
    index = IndexHarness(node("n1", slots=2))
    granted = lease(1)
    index.reserve(granted, "n1")
    assert index.capacity(GROUP).places == 1
    index.on_lease_change(granted, lease(1, "n1"))
    assert index.capacity(GROUP).places == 1
    index.release(granted)
    assert index.capacity(GROUP).places == 1


def test_a_choice_that_the_ledger_did_not_take_is_none() -> None:
    index = IndexHarness(node("n1"))
    granted = lease(1)
    index.reserve(granted, "n1")
    index.release(granted)
    assert index.picks() == "n1"


def test_leases_from_before_a_restart_keep_their_places_when_their_node_comes() -> None:
    index = IndexHarness()
    index.orders("n1")
    index.upsert(node("n1"), GROUP)
    assert index.picks() is None


def test_whether_anybody_could_ever_render_it_does_not_depend_on_who_is_busy() -> None:
    index = IndexHarness(node("n1"))
    index.orders("n1")
    assert index.can_anybody(NEED, GROUP)
    assert not index.can_anybody(need(use_gpu=True), GROUP)
    assert not index.can_anybody(NEED, "farm:mac/64bit")


@pytest.mark.parametrize(
    ("room", "cpu", "gpu", "left"),
    [
        (Capacity(cpu_only=2, gpu_only=1, either=3), 0, 0, Capacity(cpu_only=2, gpu_only=1, either=3)),
        (Capacity(cpu_only=2, gpu_only=1, either=3), 1, 1, Capacity(cpu_only=1, gpu_only=0, either=3)),
        (Capacity(cpu_only=2, gpu_only=1, either=3), 4, 2, Capacity(either=0)),
        (Capacity(cpu_only=1), 0, 5, Capacity(cpu_only=1)),
        (Capacity(gpu_only=1), 5, 0, Capacity(gpu_only=1)),
        (Capacity(either=1), 5, 5, Capacity()),
    ],
)
def test_frames_in_hand_take_the_places_meant_for_their_kind_first(
    room: Capacity, cpu: int, gpu: int, left: Capacity
) -> None:
    assert room.without(cpu=cpu, gpu=gpu) == left


@pytest.mark.parametrize(
    ("room", "method"),
    [
        (Capacity(), None),
        (Capacity(cpu_only=1), ComputeMethod.CPU_ONLY),
        (Capacity(gpu_only=1), ComputeMethod.GPU_ONLY),
        (Capacity(cpu_only=1, gpu_only=1), ComputeMethod.CPU_OR_GPU),
        (Capacity(either=1), ComputeMethod.CPU_OR_GPU),
    ],
)
def test_the_server_is_asked_for_what_the_free_places_can_do(room: Capacity, method: ComputeMethod | None) -> None:
    assert room.method() is method


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("see"), st.integers(0, 5), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 5), st.just(0), st.just(False)),
        st.tuples(st.just("order"), st.integers(0, 5), st.integers(0, 2), st.just(False)),
        st.tuples(st.just("deliver"), st.integers(0, 50), st.just(0), st.booleans()),
    ),
    max_size=60,
)


@given(steps=_STEPS, look_ahead=st.integers(0, 2), cold=st.sampled_from(list(ColdStart)), use_gpu=st.booleans())
def test_however_nodes_and_leases_come_and_go_a_choice_qualifies_and_nobody_is_left_out(
    steps: list[tuple[str, int, int, bool]], look_ahead: int, cold: ColdStart, use_gpu: bool
) -> None:
    index, here, under_way = IndexHarness(look_ahead=look_ahead), {}, []
    scenes = (SCENE, OTHER, "d" * 32)
    for act, which, what, flag in steps:
        name = f"n{which}"
        if act == "see":
            here[name] = node(name, slots=what, compute=Compute.GPU if flag else Compute.CPU)
            index.upsert(here[name], GROUP)
        elif act == "leave":
            here.pop(name, None)
            index.remove(name)
        elif act == "order":
            under_way += index.orders(name, scene=scenes[what])
        elif under_way:
            index.delivers(under_way.pop(which % len(under_way)), render_s=10)
    busy = {name: sum(lease.node_id == name for lease in under_way) for name in here}
    limits = {name: presence.slots * (1 + look_ahead) for name, presence in here.items()}
    able = {
        name
        for name, presence in here.items()
        if busy[name] < limits[name] and presence.compute is (Compute.GPU if use_gpu else Compute.CPU)
    }
    free = {name for name in able if busy[name] < here[name].slots}
    chosen = index.picks(need(use_gpu=use_gpu), cold)
    if cold is ColdStart.ANYWHERE:
        assert (chosen in (free or able)) if able else chosen is None
    else:
        assert chosen is None or chosen in able
    assert index.capacity(GROUP).places == sum(max(0, limits[name] - busy[name]) for name in here)


def test_what_starts_a_pcs_own_blender_goes_only_to_pcs_that_have_one() -> None:
    index = IndexHarness(node("a-strong", hardware={"cpu_cores": 64}), node("b-weak", blender="3.4.1"))
    assert index.choose(need(needs_local_blender=True), GROUP) == "b-weak"
    assert index.choose(NEED, GROUP) == "a-strong", "an archive that brings its renderer goes anywhere"
    index.remove("b-weak")
    assert index.choose(need(needs_local_blender=True), GROUP) is None
    assert not index.can_anybody(need(needs_local_blender=True), GROUP)
    assert index.able(NEED, GROUP) == {"a-strong"}
