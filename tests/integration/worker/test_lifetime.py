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
def test_a_node_that_is_told_to_stop_gives_everything_back_and_is_gone(fresh: WorkerHarness, how: int) -> None:
    fresh.start().until_ready()
    first = fresh.order(FOREVER)
    daemon = daemon_of(fresh)
    waiting = [fresh.order("1") for _ in range(5)]  # in hand, reserved by Celery, or still in Redis
    wait_for(lambda: (record := fresh.presence()) and len(record.busy) == 5)
    assert fresh.stop(how) < 10
    assert fresh.process
    assert fresh.process.returncode == 0
    assert not alive(daemon)
    assert not renderers_of(fresh)
    assert fresh.presence() is None
    still_in_redis = fresh.redis.client.llen(queue_of(fresh.node_id))
    given_back = [order for order in (first, *waiting) if order.lease_id in fresh.coordinator.failures]
    assert len(given_back) + still_in_redis >= 6
    assert first in given_back
    assert {fresh.coordinator.failures[order.lease_id].kind for order in given_back} == {FailureKind.NODE_LEAVING}


def test_no_renderer_outlives_a_worker_that_is_killed_with_minus_9(fresh: WorkerHarness) -> None:
    fresh.start().until_ready()
    fresh.order(FOREVER)
    daemon = daemon_of(fresh)
    assert fresh.process
    guard = next(
        child for child in psutil.Process(fresh.process.pid).children() if "guard.py" in " ".join(child.cmdline())
    )
    began = time.monotonic()
    fresh.stop(signal.SIGKILL)
    wait_for(lambda: not alive(daemon) and not renderers_of(fresh), 2)
    print(f"gone after {time.monotonic() - began:.3f} s")
    wait_for(lambda: not alive(guard.pid), 5)


def test_a_frame_outlives_a_silent_coordinator_and_a_worker_restart(fresh: WorkerHarness) -> None:
    fresh.start().until_ready()
    order = fresh.order(TWO_SECONDS)
    wait_for(lambda: rendering(fresh, order))
    fresh.coordinator.silent = True
    wait_for(lambda: any((fresh.work_dir / "outbox").iterdir()), what="a kept frame")
    assert fresh.stop() < 10
    fresh.coordinator.silent = False
    fresh.start()
    wait_for(lambda: order.lease_id in fresh.coordinator.frames)
    wait_for(lambda: not any((fresh.work_dir / "outbox").iterdir()))
    before, after = fresh.coordinator.joins
    assert after.kept == (f"{order.lease_id}.1",)
    assert before.fresh
    assert after.fresh
    assert before.node_id == after.node_id


def test_a_silent_coordinator_only_delays_a_delivery(fresh: WorkerHarness) -> None:
    fresh.start().until_ready()
    order = fresh.order(TWO_SECONDS)
    wait_for(lambda: rendering(fresh, order))
    fresh.coordinator.silent = True
    wait_for(lambda: (record := fresh.presence()) and record.busy and record.busy[0].stage is Stage.DELIVERING)
    fresh.coordinator.silent = False
    wait_for(lambda: order.lease_id in fresh.coordinator.frames)


def test_a_worker_follows_the_coordinator_to_another_redis_and_loses_no_frame(
    fresh: WorkerHarness, tmp_path: Path
) -> None:
    fresh.program = (
        "import functools, sys; from render_tasks import process;"
        "process.PresenceWriter = functools.partial(process.PresenceWriter, silence_s=1); sys.exit(process.worker())"
    )
    fresh.start().until_ready()
    order = fresh.order(TWO_SECONDS)
    wait_for(lambda: rendering(fresh, order))
    assert fresh.process
    pid, old = fresh.process.pid, fresh.redis
    old.stop()
    fresh.redis = RedisServer(tmp_path)
    fresh.coordinator.redis_url = fresh.redis.url
    wait_for(lambda: order.lease_id in fresh.coordinator.frames)
    fresh.until_ready(times=2)
    again = fresh.order("7")
    wait_for(lambda: again.lease_id in fresh.coordinator.frames)
    assert fresh.process.pid == pid
    assert fresh.process.poll() is None
    assert fresh.stop() < 10


def test_a_worker_rides_out_a_redis_restart(fresh: WorkerHarness) -> None:
    fresh.start().until_ready()
    order = fresh.order(TWO_SECONDS)
    wait_for(lambda: rendering(fresh, order))
    fresh.redis.stop()
    wait_for(lambda: order.lease_id in fresh.coordinator.frames)
    fresh.redis.start()
    again = fresh.order("8")
    wait_for(lambda: again.lease_id in fresh.coordinator.frames, 30)


def test_a_stop_while_redis_is_away_takes_less_than_ten_seconds(fresh: WorkerHarness) -> None:
    fresh.start().until_ready()
    fresh.redis.stop()
    wait_for(lambda: b"onnection" in fresh.log.read_bytes().split(b"ready.")[1], 10, "the loss is noticed")
    assert fresh.stop() < 10


def test_a_worker_waits_for_its_coordinator_and_stops_while_it_waits(fresh: WorkerHarness) -> None:
    fresh.coordinator.silent = True
    fresh.start()
    wait_for(lambda: b"asking again" in fresh.log.read_bytes())
    assert fresh.stop() < 3
    assert fresh.process
    assert fresh.process.returncode == 0


def test_a_wrong_token_is_one_clear_line_and_exit_code_3(fresh: WorkerHarness) -> None:
    fresh.settings["SHEEPFOLD_FARM_TOKEN"] = "another"
    fresh.start()
    assert fresh.process
    assert fresh.process.wait(15) == 3
    lines = fresh.log.read_text().splitlines()
    assert len(lines) == 1
    assert "SHEEPFOLD_FARM_TOKEN" in lines[0]
    assert "another" not in lines[0]


def test_a_second_worker_in_the_same_folder_is_refused(fresh: WorkerHarness) -> None:
    fresh.start().until_ready()
    first = fresh.process
    fresh.start()
    assert fresh.process
    assert fresh.process.wait(15) == 2
    assert "SHEEPFOLD_WORK_DIR: another worker uses" in fresh.log.read_text()
    fresh.process = first


def test_a_guard_that_was_killed_is_replaced(fresh: WorkerHarness) -> None:
    fresh.start().until_ready()
    assert fresh.process
    worker = psutil.Process(fresh.process.pid)
    guard = next(child for child in worker.children() if "guard.py" in " ".join(child.cmdline()))
    os.kill(guard.pid, signal.SIGKILL)
    fresh.order(FOREVER)
    daemon = daemon_of(fresh)
    fresh.stop(signal.SIGKILL)
    wait_for(lambda: not alive(daemon) and not renderers_of(fresh), 2)
