"""A PC whose worker answers and takes no orders, in a real farm with a real Redis."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from coordinator.nodes.pauses import TAKES_NOTHING
from render_tasks.presence import PresenceWriter
from sheepfold.contract.api_messages import CONTRACT_VERSION, JoinAnswer, JoinRequest
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.orders import queue_of
from sheepfold.contract.presence import Compute, NodeHardware, Presence
from tests.support.farm.faulty_farm import FaultyFarm
from tests.support.farm.running_farm import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

STALLED = "stalled-node"
#: The strongest of the farm: what may be placed there first, is.
HARDWARE = NodeHardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="x", cpu_cores=512, ram=2**40
)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path)
    try:
        yield farm
    finally:
        farm.end()


class StalledNode:
    """Joins, writes its presence record, and takes nothing out of its queue."""

    def __init__(self, farm: FaultyFarm) -> None:
        request = JoinRequest(
            contract_version=CONTRACT_VERSION,
            node_id=STALLED,
            secret="7" * 64,
            wanted_name="stalled",
            hardware=HARDWARE,
            slots=2,
            compute=Compute.CPU,
        )
        headers = {"Authorization": f"Bearer {farm.farm_token}"}
        asked = urllib.request.Request(f"{farm.coordinator_url}/api/join", to_json(request).encode(), headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            joined = from_json(JoinAnswer, answer.read())
        self.redis = redis.Redis.from_url(joined.redis_url)
        self._presence = Presence(node_id=STALLED, name=joined.name, hardware=HARDWARE, slots=2, compute=Compute.CPU)
        self._writer = PresenceWriter(joined.redis_url, STALLED, lambda: self._presence, threading.Event().set)
        self._writer.start()

    def take_all(self) -> int:
        """Takes what lies in the queue, as a worker that hears again does; how much it was."""
        taken = 0
        while self.redis.brpop([queue_of(STALLED)], timeout=0.1):
            taken += 1
        return taken

    def close(self) -> None:
        self._writer.stop()
        self.redis.close()


def shown(farm: FaultyFarm) -> dict[str, Any]:
    """The stalled PC in the status."""
    return next(node for node in farm.status()["nodes"] if node["id"] == STALLED)


def test_a_pc_that_hears_and_takes_nothing_gets_nothing_until_it_takes_again(farm: FaultyFarm) -> None:
    farm.begin("pc-01")
    stalled = StalledNode(farm)
    try:
        wait_for("both are here", lambda: len(farm.status()["nodes"]) == 2, 30)
        project = farm.submit("1-8")
        wait_for("orders lie in its queue", lambda: stalled.redis.llen(queue_of(STALLED)), 30)
        wait_for("the status says why it gets nothing", lambda: shown(farm)["trouble"] == TAKES_NOTHING, 90)
        farm.wait_until_accepted(project, 8, 30)
        assert {farm.maker(project, frame).pc for frame in range(1, 9)} == {"pc-01"}

        left = stalled.redis.llen(queue_of(STALLED))
        farm.wait_until_accepted(farm.submit("1-4"), 4, 30)
        assert stalled.redis.llen(queue_of(STALLED)) == left, "no order was sent there since"

        assert stalled.take_all() == left
        wait_for("it is given orders again by itself", lambda: shown(farm)["trouble"] == "", 30)
        farm.submit("1-4", acts={"1:*": "gate"})
        wait_for("there are some", lambda: stalled.redis.llen(queue_of(STALLED)), 30)
    finally:
        stalled.close()
