"""Messages that no coordinator wrote, in a real Redis: a real worker drops them, keeps its size, and goes on."""

from __future__ import annotations

import psutil
import pytest

from render_tasks.broker.refusals import Refused
from sheepfold.contract.celery_app import make_app
from sheepfold.contract.orders import celery_name_of, queue_of
from tests.support.nodes.hostile_messages import hostile_commands, hostile_tasks
from tests.support.nodes.worker_harness import WorkerHarness, wait_for

#: What the worker may grow by, bytes: a message of the size limit is held three times while it is read.
MAY_GROW_BYTES = 80 * 1024 * 1024
CONTROL_CHANNEL = "/0.celery.pidbox"


def renders_an_order(node: WorkerHarness) -> bool:
    """An order that comes now is rendered."""
    order = node.order("1")
    wait_for(lambda: order.lease_id in node.coordinator.frames, what="a frame after the attack")
    return True


def rss_of(node: WorkerHarness) -> int:
    assert node.process
    return psutil.Process(node.process.pid).memory_info().rss


@pytest.mark.parametrize("what", hostile_tasks())
def test_a_hostile_message_in_the_queue_is_dropped_and_the_next_order_rendered(node: WorkerHarness, what: str) -> None:
    assert renders_an_order(node)
    before = rss_of(node)
    node.redis.client.lpush(queue_of(node.node_id), hostile_tasks()[what])
    wait_for(lambda: not node.redis.client.exists(queue_of(node.node_id)), what="the message is taken")
    assert renders_an_order(node)
    assert rss_of(node) - before < MAY_GROW_BYTES
    assert node.log.read_text().count("ready.") == 1, "Celery has not begun anew"


def test_what_was_dropped_is_told_in_one_line(node: WorkerHarness) -> None:
    before = len(node.log.read_text().splitlines())
    for _ in range(50):
        node.redis.client.lpush(queue_of(node.node_id), b"\x00\n\n" * 1000)
    assert renders_an_order(node)
    told = node.log.read_text().splitlines()[before:]
    lines = [line for line in told if f"refused {Refused.TASK.value}" in line]
    assert len(lines) <= 2
    assert all(len(line) < 500 for line in lines)


@pytest.mark.parametrize("what", hostile_commands("q"))
def test_a_hostile_command_changes_nothing(node: WorkerHarness, what: str) -> None:
    assert renders_an_order(node)
    before = rss_of(node)
    message = hostile_commands(queue_of(node.node_id))[what]
    assert node.redis.client.publish(CONTROL_CHANNEL, message) == 1
    app = make_app(node.redis.url)
    assert app.control.ping(timeout=5, limit=1) == [{celery_name_of("pc-03"): {"ok": "pong"}}]
    assert renders_an_order(node)
    assert rss_of(node) - before < MAY_GROW_BYTES
    assert node.log.read_text().count("ready.") == 1, "Celery has not begun anew"


def test_nothing_but_a_ping_is_answered(node: WorkerHarness) -> None:
    look = make_app(node.redis.url).control.inspect(timeout=1, limit=1)
    assert look.ping() == {celery_name_of("pc-03"): {"ok": "pong"}}
    assert look.active() is None
    assert look.stats() is None


def test_a_queue_that_is_no_list_ends_no_worker(own_node: WorkerHarness) -> None:
    own_node.start().until_ready()
    queue = queue_of(own_node.node_id)
    for key in (queue, f"{queue}:9"):
        own_node.redis.client.set(key, "not a list")
    wait_for(lambda: b"Frequent restarts" in own_node.log.read_bytes(), what="the worker sees it")
    own_node.redis.client.delete(queue, f"{queue}:9")
    assert renders_an_order(own_node)
