"""A simulated afternoon: 50 PCs, 8 jobs, the server hands out frames of any of them. How many renders begin cold?

Time is simulated, the placement is the real one. A PC renders its orders in turn; a frame whose scene its Blender does
not have open costs a start. It is asked for as many frames as there are places, as the farm does.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from coordinator.leases.lease import Delivery, Lease, LeaseState
from coordinator.scheduling.matching import PendingLease, Requirements
from coordinator.scheduling.node_index import NodeIndex
from sheepfold.protocol.messages import RendererOffer
from tests.support.coordinator.builders import offer
from tests.support.coordinator.fakes import node

PCS, JOBS, FRAMES = 50, 8, 4000
GROUP = "farm:linux/64bit"
START_S = 3.0
#: The farm looks round this often even when nothing happens.
TICK_S = 1.0

Match = Callable[[NodeIndex, list[PendingLease]], dict[str, str]]


@dataclass
class SimulatedNode:
    name: str
    #: Seconds a frame takes here.
    pace_s: float
    queue: deque[Lease] = field(default_factory=deque)
    open_scene: str = ""
    rendering: Lease | None = None
    idle_since: float | None = 0.0
    idle_s: float = 0.0


class Simulation:
    """One run; ``match`` decides which frame goes where."""

    def __init__(self, match: Match, seed: int, frame_s: float) -> None:
        self.rng, self.match = random.Random(seed), match
        self.index = NodeIndex(look_ahead=1)
        self.pcs = {f"pc-{n:02}": SimulatedNode(f"pc-{n:02}", frame_s * self.rng.uniform(0.6, 1.6)) for n in range(PCS)}
        for name in self.pcs:
            self.index.upsert(node(name), GROUP)
        self.now, self.granted, self.number = 0.0, dict[str, Lease](), 0
        self.ends: list[tuple[float, str]] = []
        self.done = self.cold = 0

    def run(self) -> tuple[float, float]:
        """The share of frames that began cold, and of the PCs' time that was idle."""
        while self.done < FRAMES:
            self._ask()
            self._place()
            self._advance()
        idle_s = sum(pc.idle_s for pc in self.pcs.values())
        return self.cold / self.done, idle_s / (self.now * PCS)

    def _ask(self) -> None:
        while len(self.granted) < self.index.capacity(GROUP).places:
            self.number += 1
            scene = f"{self.rng.randrange(JOBS):032x}"
            renderer = RendererOffer(md5="b" * 32, command_line="", update_method="")
            lease = Lease(
                id=f"{self.number:032x}",
                session_key=GROUP,
                offer=offer(f"{self.number:05}", archive_md5=scene, renderer=renderer),
                changed_at=self.now,
            )
            self.granted[lease.id] = lease

    def _place(self) -> None:
        wishes = [
            PendingLease(
                lease=lease,
                need=Requirements(use_gpu=False, scene_key=lease.offer.archive_md5, renderer_md5="b" * 32),
                waited_s=self.now - lease.changed_at,
            )
            for lease in self.granted.values()
        ]
        for lease_id, name in self.match(self.index, wishes).items():
            lease = self.granted.pop(lease_id)
            ordered = replace(lease, state=LeaseState.ORDERED, node_id=name)
            self.index.on_lease_change(lease, ordered)
            self.pcs[name].queue.append(ordered)
            self._begin(self.pcs[name])

    def _begin(self, pc: SimulatedNode) -> None:
        if pc.rendering or not pc.queue:
            return
        pc.rendering = pc.queue.popleft()
        if pc.idle_since is not None:
            pc.idle_s, pc.idle_since = pc.idle_s + self.now - pc.idle_since, None
        is_cold = pc.open_scene != pc.rendering.offer.archive_md5
        self.cold += is_cold
        pc.open_scene = pc.rendering.offer.archive_md5
        heapq.heappush(self.ends, (self.now + pc.pace_s * self.rng.uniform(0.8, 1.2) + START_S * is_cold, pc.name))

    def _advance(self) -> None:
        if self.granted and (not self.ends or self.ends[0][0] > self.now + TICK_S):
            self.now += TICK_S
            return
        self.now, name = heapq.heappop(self.ends)
        pc = self.pcs[name]
        assert pc.rendering
        delivery = Delivery(picture="x.png", size=1, render_s=pc.pace_s, memory_kb=1, cores=1)
        self.index.on_lease_change(pc.rendering, replace(pc.rendering, state=LeaseState.DELIVERED, delivery=delivery))
        pc.rendering, pc.idle_since = None, self.now
        self.done += 1
        self._begin(pc)


def as_the_farm_does(index: NodeIndex, wishes: list[PendingLease]) -> dict[str, str]:
    return index.match(wishes)


def at_random(index: NodeIndex, wishes: list[PendingLease]) -> dict[str, str]:
    """Any place that is free, slots before queues, without a look at what is open there."""
    rng, found = random.Random(len(wishes)), {}
    here = index._ranked.group(GROUP)
    for wish in wishes:
        tier = here.free or here.waiting
        if tier:
            found[wish.lease.id] = rng.choice(tier)[-1]
            index.reserve(wish.lease, found[wish.lease.id])
    return found


@pytest.mark.parametrize("frame_s", [10.0, 40.0])
def test_far_fewer_renders_begin_cold_than_at_random_and_no_pc_waits_for_it(frame_s: float) -> None:
    ours, ours_idle = Simulation(as_the_farm_does, 7, frame_s).run()
    random_, _ = Simulation(at_random, 7, frame_s).run()
    print(f"frames of {frame_s:g} s: cold {ours:.1%} against {random_:.1%}, idle {ours_idle:.2%}")
    assert random_ == pytest.approx(1 - 1 / JOBS, abs=0.05), "the comparison is what it says"
    assert ours < random_ / 3
    assert ours_idle < 0.01
