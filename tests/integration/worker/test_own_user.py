"""A real worker whose user in Redis the coordinator's own code made, and which may do nothing else."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sheepfold.contract.celery_app import make_app
from sheepfold.contract.orders import celery_name_of
from tests.support.nodes.redis_users import UsersHarness
from tests.support.nodes.worker_harness import WorkerHarness, wait_for
from tests.support.nodes.worker_probes import CeleryEvents, rendering

#: A frame that the null renderer never finishes.
FOREVER = "900"


@pytest.fixture
def users(own_node: WorkerHarness, tmp_path: Path) -> Iterator[UsersHarness]:
    with contextlib.closing(UsersHarness(own_node.redis.url, tmp_path)) as harness:
        harness.users.open()
        own_node.coordinator.login_of = harness.admit_worker
        yield harness


def test_a_worker_renders_and_is_cancelled_and_is_never_refused(own_node: WorkerHarness, users: UsersHarness) -> None:
    own_node.settings["SHEEPFOLD_SLOTS"] = "2"
    own_node.start().until_ready()
    orders = [own_node.order(str(frame)) for frame in range(12)]
    wait_for(lambda: all(order.lease_id in own_node.coordinator.frames for order in orders), 60, "twelve frames")
    long = own_node.order(FOREVER)
    wait_for(lambda: rendering(own_node, long), what="it renders")
    own_node.cancel(long)
    wait_for(lambda: not rendering(own_node, long), what="the cancel is heard")
    assert own_node.stop(signal.SIGTERM) < 10
    assert users.client.acl_log() == []
    assert not users.client.keys("_kombu.*"), "a worker keeps nothing there"


def test_flower_sees_frames_and_its_ping_is_answered(own_node: WorkerHarness, users: UsersHarness) -> None:
    own_node.start().until_ready()
    url = users.users.flower_login("127.0.0.1")
    with contextlib.closing(CeleryEvents(url)) as events:
        order = own_node.order("1")
        assert events.last(order, "task-succeeded")
    assert make_app(url).control.ping(timeout=5, limit=1) == [{celery_name_of("pc-03"): {"ok": "pong"}}]
    assert users.client.acl_log() == []


def test_a_worker_whose_user_redis_forgot_joins_again_and_goes_on(own_node: WorkerHarness, users: UsersHarness) -> None:
    own_node.start().until_ready()
    own_node.redis.stop()
    own_node.redis.start()
    wait_for(lambda: len(own_node.coordinator.joins) > 1, 30, "it joins again")
    order = own_node.order("1")
    wait_for(lambda: order.lease_id in own_node.coordinator.frames, 60, "a frame")
    assert own_node.log.read_text().count("ready.") == 1, "Celery has not begun anew"


def test_a_worker_does_not_notice_a_restart_after_which_its_user_is_made_at_once(
    own_node: WorkerHarness, users: UsersHarness
) -> None:
    own_node.start().until_ready()
    own_node.redis.stop()
    own_node.redis.start()
    users.users.look_once(())
    order = own_node.order("1")
    wait_for(lambda: order.lease_id in own_node.coordinator.frames, 60, "a frame")
