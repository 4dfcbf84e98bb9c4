"""A coordinator that is another farm's, where a worker's own was: a real worker does not follow it."""

from __future__ import annotations

import os
import subprocess
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sheepfold.errors import ExitCode
from tests.support.nodes.worker_harness import WorkerHarness, wait_for


def set_up_anew(node: WorkerHarness) -> None:
    """Another coordinator answers at the same address, with the same token and Redis."""
    node.coordinator.key, node.coordinator.farm_id = Ed25519PrivateKey.generate(), "farm-2"


def forget_farm(node: WorkerHarness) -> str:
    """Runs ``sheepfold forget-farm`` on the node's PC; what it says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SHEEPFOLD_")}
    command = [sys.executable, "-m", "sheepfold", "forget-farm"]
    env["SHEEPFOLD_WORK_DIR"] = str(node.work_dir)
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_running_worker_follows_no_other_farms_orders_and_says_why(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    own = (own_node.coordinator.key, own_node.coordinator.farm_id)
    set_up_anew(own_node)
    order = own_node.order("1")
    record = wait_for(lambda: (found := own_node.presence()) and found.trouble and found, what="its record tells")
    assert "this PC belongs to farm farm-1 (key " in record.trouble
    assert "sheepfold forget-farm" in record.trouble
    assert order.lease_id not in {lease_id for lease_id, _ in own_node.coordinator.starts}

    own_node.coordinator.key, own_node.coordinator.farm_id = own
    again = own_node.order("2")
    wait_for(lambda: again.lease_id in own_node.coordinator.frames, what="its own coordinator's orders are followed")


def test_a_worker_that_starts_at_another_farm_ends_with_what_to_do_and_does_it(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    assert own_node.stop() < 10
    set_up_anew(own_node)
    own_node.start()
    assert own_node.process
    assert own_node.process.wait(30) == ExitCode.REFUSED
    line = own_node.log.read_text().splitlines()[-1]
    assert "this PC belongs to farm farm-1" in line
    assert "says that it is farm farm-2" in line
    assert "`sheepfold forget-farm` on this PC" in line

    assert "no longer belongs to farm farm-1 (key " in forget_farm(own_node)
    assert "belongs to no farm" in forget_farm(own_node)
    own_node.start().until_ready(times=2)
    order = own_node.order("1")
    wait_for(lambda: order.lease_id in own_node.coordinator.frames)
