"""Which node gets which offer."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.placement import Candidate, Need, choose, compute_method
from coordinator.protocol.messages import ComputeMethod
from render_tasks.contract import Compute, NodeHardware, Presence

SCENE, RENDERER = "a" * 32, "b" * 32
NEED = Need(os="linux", bits="64bit", use_gpu=False, scene_md5=SCENE, renderer_md5=RENDERER)
PC = NodeHardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="CPU", cpu_cores=8, ram=16 * 1024**3
)


def need(**changes: Any) -> Need:
    return dataclasses.replace(NEED, **changes)


def node(node_id: str, *, underway: int = 0, slots: int = 1, gpus: tuple[str, ...] = (), **fields: Any) -> Candidate:
    hardware_fields = {key: fields.pop(key) for key in ("os", "bits", "cpu_cores", "ram") if key in fields}
    presence = Presence(
        node_id=node_id,
        name=fields.pop("name", node_id),
        hardware=dataclasses.replace(PC, gpus=gpus, **hardware_fields),
        slots=slots,
        compute=fields.pop("compute", Compute.CPU),
        **fields,
    )
    return Candidate(presence=presence, underway=underway)


def test_nobody_there_means_nobody_chosen() -> None:
    assert choose(NEED, []) is None


@pytest.mark.parametrize("wrong", [{"os": "windows"}, {"bits": "32bit"}, {"ram": 1024}, {"accepting": False}])
def test_a_node_that_cannot_render_the_frame_is_never_chosen(wrong: dict[str, Any]) -> None:
    assert choose(need(min_ram=8 * 1024**3), [node("n1", **wrong)]) is None


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
    chosen = choose(need(use_gpu=use_gpu), [node("n1", compute=compute, gpus=gpus)])
    assert chosen == ("n1" if fits else None)


def test_a_node_that_failed_the_lease_is_the_last_choice_and_still_one() -> None:
    assert choose(need(tried=["n1"]), [node("n1", archives=(SCENE, RENDERER)), node("n2", underway=0)]) == "n2"
    assert choose(need(tried=["n1"]), [node("n1")]) == "n1"


def test_a_free_slot_beats_a_warm_queue() -> None:
    busy_and_warm = node("warm", underway=1, archives=(SCENE, RENDERER))
    assert choose(NEED, [busy_and_warm, node("cold")], lookahead=1) == "cold"


def test_the_scene_beats_the_renderer_and_the_renderer_beats_nothing() -> None:
    scene, renderer = node("scene", archives=(SCENE,)), node("renderer", archives=(RENDERER,))
    assert choose(NEED, [node("cold", cpu_cores=64), renderer, scene]) == "scene"
    assert choose(NEED, [node("cold", cpu_cores=64), renderer]) == "renderer"


def test_the_least_busy_for_its_slots_wins_then_the_most_cores() -> None:
    assert choose(NEED, [node("half", slots=2, underway=1), node("quarter", slots=4, underway=1)]) == "quarter"
    assert choose(NEED, [node("small", cpu_cores=4), node("big", cpu_cores=32)]) == "big"


def test_look_ahead_gives_each_node_that_many_orders_beyond_its_slots() -> None:
    full = node("n1", slots=2, underway=2)
    assert choose(NEED, [full]) is None
    assert choose(NEED, [full], lookahead=1) == "n1"
    assert choose(NEED, [node("n1", slots=2, underway=4)], lookahead=1) is None


def test_a_test_frame_goes_only_to_the_machine_it_measures() -> None:
    assert choose(need(only=["n2"]), [node("n1"), node("n2")]) == "n2"
    assert choose(need(only=["n2"]), [node("n1")]) is None


@given(st.permutations([node(f"n{n}", name="pc", cpu_cores=8) for n in range(5)]))
def test_the_order_in_which_nodes_are_listed_does_not_matter(candidates: list[Candidate]) -> None:
    assert choose(NEED, candidates) == "n0"


@given(
    st.lists(
        st.builds(
            lambda n, slots, underway, warm, os, compute: node(
                f"n{n}", slots=slots, underway=underway, archives=(SCENE,) * warm, os=os, compute=compute
            ),
            st.integers(0, 99),
            st.integers(1, 4),
            st.integers(0, 6),
            st.booleans(),
            st.sampled_from(["linux", "windows"]),
            st.sampled_from(list(Compute)),
        )
    ),
    st.integers(0, 2),
    st.booleans(),
)
def test_whoever_is_chosen_qualifies_and_nobody_is_left_out(
    candidates: list[Candidate], lookahead: int, use_gpu: bool
) -> None:
    wanted = need(use_gpu=use_gpu)
    chosen = choose(wanted, candidates, lookahead=lookahead)
    able = [
        one.presence.node_id
        for one in candidates
        if one.presence.hardware.os == "linux"
        and one.underway < one.presence.slots * (1 + lookahead)
        and one.presence.compute is not (Compute.CPU if use_gpu else Compute.GPU)
        and (not use_gpu or one.presence.compute is Compute.GPU)
    ]
    assert (chosen in able) if able else chosen is None


@pytest.mark.parametrize(
    ("computes", "method"),
    [
        ([], None),
        ([Compute.CPU], ComputeMethod.CPU_ONLY),
        ([Compute.GPU], ComputeMethod.GPU_ONLY),
        ([Compute.GPU, Compute.CPU], ComputeMethod.CPU_OR_GPU),
        ([Compute.BOTH], ComputeMethod.CPU_ONLY),
    ],
)
def test_the_server_is_asked_for_what_the_free_nodes_can_do(
    computes: list[Compute], method: ComputeMethod | None
) -> None:
    free = [node(f"n{n}", compute=compute) for n, compute in enumerate(computes)]
    assert compute_method([*free, node("full", underway=1, compute=Compute.GPU)]) is method


def test_a_node_for_both_is_asked_for_with_both_once_it_has_a_gpu() -> None:
    assert compute_method([node("n1", compute=Compute.BOTH, gpus=("RTX",))]) is ComputeMethod.CPU_OR_GPU
