"""A real worker process that renders orders; a small coordinator and a renderer that only pretends."""

from __future__ import annotations

import contextlib
import time

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.orders import ArchiveRef
from sheepfold.contract.presence import Stage
from sheepfold.contract.signing import sign_order
from tests.support.nodes.null_renderer import packed, renderer_archive, scene_archive
from tests.support.nodes.worker_harness import TOKEN, WorkerHarness, wait_for
from tests.support.nodes.worker_probes import CeleryEvents, alive, daemon_of, renderers_of, rendering, stages

FOREVER, CRASH, NO_LIBRARIES, NO_PICTURE, DISK_FULL = "900", "901", "902", "903", "904"
TWO_SECONDS, GREEDY, NO_SUFFIX = "905", "906", "907"


def test_frames_come_back_with_what_their_render_took(node: WorkerHarness) -> None:
    orders = [node.order(f"{number:04d}") for number in range(1, 7)]
    wait_for(lambda: all(order.lease_id in node.coordinator.frames for order in orders))
    report = node.coordinator.reports[orders[0].lease_id]
    assert report["name"] == "frame_0001.png"
    assert int(report["memory_kb"]) >= 11089  # what the renderer said
    assert 0 < float(report["render_s"]) < 10
    assert int(report["cores"]) >= 1
    assert len({node.coordinator.frames[order.lease_id] for order in orders}) == 6
    wait_for(lambda: not any((node.work_dir / "scratch").iterdir()), 5)
    wait_for(lambda: not any((node.work_dir / "outbox").iterdir()), 5)


def test_two_slots_fetch_an_archive_once_and_tell_that_they_hold_it(node: WorkerHarness) -> None:
    orders = [node.order(f"{number:04d}") for number in range(11, 15)]
    wait_for(lambda: all(order.lease_id in node.coordinator.frames for order in orders))
    held = sorted(ref.md5 for ref, _ in (renderer_archive(), scene_archive()))
    assert sorted(node.coordinator.fetched) == held
    wait_for(lambda: (record := node.presence()) and sorted(record.archives) == held)


def test_while_a_slot_renders_its_next_orders_wait_with_their_archives_and_the_last_frame_travels(
    own_node: WorkerHarness,
) -> None:
    own_node.start().until_ready()
    own_node.coordinator.takes_frames.clear()
    travels = own_node.order("1")
    wait_for(lambda: stages(own_node) == {travels.lease_id: Stage.DELIVERING}, what="the first frame travels")
    renders = own_node.order(FOREVER)
    wait_for(lambda: rendering(own_node, renders))
    other = packed({"shots/scene.blend": b"another scene"})
    own_node.coordinator.archives[other[0].md5] = other[1]
    ready = [own_node.order(str(frame), scene_archives=(other[0],)) for frame in (2, 3, 4)]
    expected = {travels.lease_id: Stage.DELIVERING, renders.lease_id: Stage.RENDERING}
    wait_for(lambda: stages(own_node) == expected | {order.lease_id: Stage.WAITING for order in ready})
    assert own_node.coordinator.fetched.count(other[0].md5) == 1
    own_node.coordinator.takes_frames.set()
    wait_for(lambda: travels.lease_id in own_node.coordinator.frames)
    own_node.cancel(renders)
    wait_for(lambda: all(order.lease_id in own_node.coordinator.frames for order in ready))
    rendered = [
        line.split("frame ")[1].split(" ")[0] for line in own_node.log.read_text().splitlines() if "rendered:" in line
    ]
    assert rendered == ["1", "2", "3", "4"], "in the order they came"


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (CRASH, FailureKind.RENDERER_CRASHED),
        (NO_LIBRARIES, FailureKind.MISSING_LIBRARIES),
        (NO_PICTURE, FailureKind.NO_OUTPUT),
        (DISK_FULL, FailureKind.DISK_FULL),
        ("../1", FailureKind.BAD_ORDER),
    ],
)
def test_a_failure_is_told_apart_and_reported_with_its_log(node: WorkerHarness, frame: str, kind: FailureKind) -> None:
    order = node.order(frame)
    failure = wait_for(lambda: node.coordinator.failures.get(order.lease_id))
    assert failure.kind is kind
    assert kind is FailureKind.BAD_ORDER or "Fra:" in failure.log


def test_a_scene_or_an_archive_that_is_not_there_is_a_failure(node: WorkerHarness) -> None:
    no_scene = node.order("1", scene_path="shots/other.blend")
    outside = node.order("1", scene_path="../../node-id")
    no_archive = node.order("1", scene_archives=(ArchiveRef(md5="0" * 32, size=7),))
    wait_for(lambda: {order.lease_id for order in (no_scene, outside, no_archive)} <= node.coordinator.failures.keys())
    assert node.coordinator.failures[no_scene.lease_id].kind is FailureKind.BAD_ARCHIVE
    assert node.coordinator.failures[outside.lease_id].kind is FailureKind.BAD_ORDER
    assert node.coordinator.failures[no_archive.lease_id].kind is FailureKind.NO_ARCHIVE


def test_a_time_limit_ends_a_render(node: WorkerHarness) -> None:
    order = node.order(FOREVER, time_limit_s=1)
    failure = wait_for(lambda: node.coordinator.failures.get(order.lease_id))
    assert failure.kind is FailureKind.TIME_LIMIT
    assert failure.render_s < 5
    assert not alive(daemon_of(node))


def test_a_picture_without_a_suffix_is_delivered_with_the_one_it_deserves(node: WorkerHarness) -> None:
    order = node.order(NO_SUFFIX)
    report = wait_for(lambda: node.coordinator.reports.get(order.lease_id))
    assert report["name"] == "frame_0907.png"


def test_a_memory_limit_ends_a_render(node: WorkerHarness) -> None:
    order = node.order(GREEDY)
    failure = wait_for(lambda: node.coordinator.failures.get(order.lease_id))
    assert failure.kind is FailureKind.OUT_OF_MEMORY
    assert "may hold 0.25 GB" in failure.reason
    assert "\n" not in failure.reason


def test_the_record_tells_what_the_node_is_apt_for(node: WorkerHarness) -> None:
    record = node.presence()
    assert record
    assert record.tags == ("fast", "lab")
    assert record.warm == ()


def test_an_order_that_is_stale_or_comes_twice_is_dropped(node: WorkerHarness) -> None:
    order = node.order(TWO_SECONDS)
    node.send(node.coordinator.signed(order), order)
    wait_for(lambda: order.lease_id in node.coordinator.frames)
    assert node.coordinator.starts.count((order.lease_id, 1)) == 1

    fetched = len(node.coordinator.fetched)
    node.coordinator.stale.add("gone")
    stale = node.order("1", lease_id="gone", scene_archives=(ArchiveRef(md5="1" * 32, size=7),))
    sentinel = node.order("2")
    wait_for(lambda: sentinel.lease_id in node.coordinator.frames)
    assert stale.lease_id not in node.coordinator.frames | node.coordinator.failures
    assert len(node.coordinator.fetched) == fetched


def test_an_order_somebody_else_signed_is_refused(node: WorkerHarness) -> None:
    with contextlib.closing(CeleryEvents(node.redis.url)) as events:
        mine = node.order("1")
        wait_for(lambda: mine.lease_id in node.coordinator.frames)
        other = node.order_for("1", lease_id="forged")
        node.send(sign_order(other, node.coordinator.stamp(), Ed25519PrivateKey.generate()), other)
        assert "not signed" in events.last(other, "task-failed")["exception"]
    assert "forged" not in node.coordinator.failures


def test_a_cancel_kills_the_whole_tree_within_two_seconds_and_is_not_reported(node: WorkerHarness) -> None:
    with contextlib.closing(CeleryEvents(node.redis.url)) as events:
        order = node.order(FOREVER)
        daemon = daemon_of(node)
        wait_for(lambda: rendering(node, order))
        began = time.monotonic()
        node.cancel(order)
        wait_for(
            lambda: not alive(daemon) and not any("900" in renderer.cmdline() for renderer in renderers_of(node)), 2
        )
        assert time.monotonic() - began < 2
        events.last(order, "task-revoked")
    assert order.lease_id not in node.coordinator.failures


def test_flower_sees_how_an_order_really_ended_and_no_secret(node: WorkerHarness) -> None:
    with contextlib.closing(CeleryEvents(node.redis.url)) as events:
        good, bad = node.order("0012"), node.order(CRASH)
        events.last(good, "task-succeeded")
        failed = events.last(bad, "task-failed")
        stale = node.order("13", lease_id="gone")
        node.coordinator.stale.add("gone")
        events.last(stale, "task-revoked")
        received = events.last(good, "task-received")
    assert received["args"] == "frame 0012 · demo · pc-03"
    assert events.of(good) == ["task-received", "task-started", "task-succeeded"]
    assert failed["exception"] == "FrameFailed('renderer crashed: the renderer died of SIGSEGV')"
    assert not failed["traceback"]
    shown = repr(events.seen)
    assert "SECRET_SCRIPT" not in shown
    assert "signature" not in shown


def test_no_secret_reaches_log_arguments_or_renderer(node: WorkerHarness) -> None:
    order = node.order(NO_PICTURE)
    failure = wait_for(lambda: node.coordinator.failures.get(order.lease_id))
    assert "leaked: ['SHEEPFOLD_RENDER_MARK']" in failure.log
    assert node.process
    shown = node.log.read_text() + " ".join(psutil.Process(node.process.pid).cmdline()) + failure.log
    assert TOKEN not in shown
    assert node.redis.password not in shown
