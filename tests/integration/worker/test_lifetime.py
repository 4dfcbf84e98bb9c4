"""A real worker process starts, stops, is killed, and outlives what it depends on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.orders import queue_of
from sheepfold.contract.presence import Stage
from tests.support.nodes.worker_harness import RedisServer, WorkerHarness, wait_for
from tests.support.nodes.worker_probes import alive, daemon_of, renderers_of, rendering

FOREVER, CRASH, NO_LIBRARIES, NO_PICTURE, DISK_FULL = "900", "901", "902", "903", "904"
TWO_SECONDS, GREEDY, NO_SUFFIX = "905", "906", "907"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_stop_gives_everything_back_and_is_gone(own_node: WorkerHarness, how: int) -> None:
    own_node.start().until_ready()
    first = own_node.order(FOREVER)
    daemon = daemon_of(own_node)
    waiting = [own_node.order("1") for _ in range(5)]  # in hand, reserved by Celery, or still in Redis
    wait_for(lambda: (record := own_node.presence()) and len(record.busy) == 5)
    assert own_node.stop(how) < 10
    assert own_node.process
    assert own_node.process.returncode == 0
    assert not alive(daemon)
    assert not renderers_of(own_node)
    assert own_node.presence() is None
    still_in_redis = own_node.redis.client.llen(queue_of(own_node.node_id))
    given_back = [order for order in (first, *waiting) if order.lease_id in own_node.coordinator.failures]
    assert len(given_back) + still_in_redis >= 6
    assert first in given_back
    assert {own_node.coordinator.failures[order.lease_id].kind for order in given_back} == {FailureKind.NODE_LEAVING}


def test_no_renderer_outlives_a_worker_that_is_killed_with_minus_9(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    own_node.order(FOREVER)
    daemon = daemon_of(own_node)
    assert own_node.process
    guard = next(
        child for child in psutil.Process(own_node.process.pid).children() if "guard.py" in " ".join(child.cmdline())
    )
    began = time.monotonic()
    own_node.stop(signal.SIGKILL)
    wait_for(lambda: not alive(daemon) and not renderers_of(own_node), 2)
    print(f"gone after {time.monotonic() - began:.3f} s")
    wait_for(lambda: not alive(guard.pid), 5)


def test_a_frame_outlives_a_silent_coordinator_and_a_worker_restart(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    order = own_node.order(TWO_SECONDS)
    wait_for(lambda: rendering(own_node, order))
    own_node.coordinator.silent = True
    wait_for(lambda: any((own_node.work_dir / "outbox").iterdir()), what="a kept frame")
    assert own_node.stop() < 10
    own_node.coordinator.silent = False
    own_node.start()
    wait_for(lambda: order.lease_id in own_node.coordinator.frames)
    wait_for(lambda: not any((own_node.work_dir / "outbox").iterdir()))
    before, after = own_node.coordinator.joins
    assert after.kept == (f"{order.lease_id}.1",)
    assert before.fresh
    assert after.fresh
    assert before.node_id == after.node_id


def test_a_silent_coordinator_only_delays_a_delivery(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    order = own_node.order(TWO_SECONDS)
    wait_for(lambda: rendering(own_node, order))
    own_node.coordinator.silent = True
    wait_for(lambda: (record := own_node.presence()) and record.busy and record.busy[0].stage is Stage.DELIVERING)
    own_node.coordinator.silent = False
    wait_for(lambda: order.lease_id in own_node.coordinator.frames)


def test_a_worker_follows_the_coordinator_to_another_redis_and_loses_no_frame(
    own_node: WorkerHarness, tmp_path: Path
) -> None:
    own_node.program = (
        "import functools, sys; from render_tasks import process;"
        "process.PresenceWriter = functools.partial(process.PresenceWriter, silence_s=1); sys.exit(process.worker())"
    )
    own_node.start().until_ready()
    order = own_node.order(TWO_SECONDS)
    wait_for(lambda: rendering(own_node, order))
    assert own_node.process
    pid, old = own_node.process.pid, own_node.redis
    old.stop()
    own_node.redis = RedisServer(tmp_path)
    own_node.coordinator.redis_url = own_node.redis.url
    wait_for(lambda: order.lease_id in own_node.coordinator.frames)
    own_node.until_ready(times=2)
    again = own_node.order("7")
    wait_for(lambda: again.lease_id in own_node.coordinator.frames)
    assert own_node.process.pid == pid
    assert own_node.process.poll() is None
    assert own_node.stop() < 10


def test_a_worker_rides_out_a_redis_restart(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    order = own_node.order(TWO_SECONDS)
    wait_for(lambda: rendering(own_node, order))
    own_node.redis.stop()
    wait_for(lambda: order.lease_id in own_node.coordinator.frames)
    own_node.redis.start()
    again = own_node.order("8")
    wait_for(lambda: again.lease_id in own_node.coordinator.frames, 30)


def test_a_stop_while_redis_is_away_takes_less_than_ten_seconds(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    own_node.redis.stop()
    wait_for(lambda: b"onnection" in own_node.log.read_bytes().split(b"ready.")[1], 10, "the loss is noticed")
    assert own_node.stop() < 10


def test_a_worker_waits_for_its_coordinator_and_stops_while_it_waits(own_node: WorkerHarness) -> None:
    own_node.coordinator.silent = True
    own_node.start()
    wait_for(lambda: b"asking again" in own_node.log.read_bytes())
    assert own_node.stop() < 3
    assert own_node.process
    assert own_node.process.returncode == 0


def test_a_wrong_token_is_one_clear_line_and_exit_code_3(own_node: WorkerHarness) -> None:
    own_node.settings["SHEEPFOLD_FARM_TOKEN"] = "another"
    own_node.start()
    assert own_node.process
    assert own_node.process.wait(15) == 3
    lines = own_node.log.read_text().splitlines()
    assert len(lines) == 1
    assert "SHEEPFOLD_FARM_TOKEN" in lines[0]
    assert "another" not in lines[0]


def test_a_second_worker_in_the_same_folder_is_refused(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    first = own_node.process
    own_node.start()
    assert own_node.process
    assert own_node.process.wait(15) == 2
    assert "SHEEPFOLD_WORK_DIR: another worker uses" in own_node.log.read_text()
    own_node.process = first


def test_a_guard_that_was_killed_is_replaced(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    assert own_node.process
    worker = psutil.Process(own_node.process.pid)
    guard = next(child for child in worker.children() if "guard.py" in " ".join(child.cmdline()))
    os.kill(guard.pid, signal.SIGKILL)
    own_node.order(FOREVER)
    daemon = daemon_of(own_node)
    own_node.stop(signal.SIGKILL)
    wait_for(lambda: not alive(daemon) and not renderers_of(own_node), 2)
