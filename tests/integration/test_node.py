"""A real worker process on a real Redis, with a small real depot and a renderer that only pretends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.broker.redis_discovery import NoRedis, find_redis
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.celery_app import cancel_order, make_app, send_order, task_id_of
from sheepfold.contract.orders import ArchiveRef, RenderOrder, queue_of, sign_order
from sheepfold.contract.presence import Stage
from tests.support.nodes.null_renderer import packed, renderer_archive, scene_archive
from tests.support.nodes.worker_harness import TOKEN, OneNode, RedisServer, wait_for

pytestmark = pytest.mark.redis

FOREVER, CRASH, NO_LIBRARIES, NO_PICTURE, DISK_FULL = "900", "901", "902", "903", "904"
TWO_SECONDS, GREEDY, NO_SUFFIX = "905", "906", "907"


@pytest.fixture(autouse=True, scope="module")
def _redis_is_here() -> None:
    try:
        find_redis(install=False)
    except NoRedis as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[OneNode]:
    """A node of this test's own, not yet started."""
    with contextlib.closing(OneNode(tmp_path)) as node:
        yield node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    """A running node that the tests of this file share; none of them ends it."""
    settings = {"SHEEPFOLD_SLOTS": "2", "SHEEPFOLD_TAGS": "fast, lab", "SHEEPFOLD_MEMORY_GB": "0.25"}
    with contextlib.closing(OneNode(tmp_path_factory.mktemp("node"), **settings)) as node:
        yield node.start().until_ready()


class Events:
    """What Flower would see of the tasks."""

    def __init__(self, redis_url: str) -> None:
        self.seen: list[dict[str, Any]] = []
        self._app = make_app(redis_url)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _listen(self) -> None:
        with self._app.connection() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self.seen.append})
            with receiver.consumer_context() as (own_connection, _, _):
                while not self._stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        own_connection.drain_events(timeout=0.2)
                    self._ready.set()  # the first drain subscribes

    def of(self, order: RenderOrder) -> list[str]:
        task = task_id_of(order.lease_id, order.attempt)
        return [event["type"] for event in self.seen if event.get("uuid") == task]

    def last(self, order: RenderOrder, type_: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            task = task_id_of(order.lease_id, order.attempt)
            return next((one for one in self.seen if one.get("uuid") == task and one["type"] == type_), None)

        return wait_for(found, 15, f"{type_} of frame {order.frame}")

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def daemon_of(node: OneNode) -> int:
    """The pid of the child that frame 900's renderer let loose."""
    path = node.work_dir / "scratch" / "daemon.pid"
    pid = int(wait_for(lambda: path.exists() and path.read_text(), 15, "a daemonised child"))
    path.unlink()
    return pid


def stages(node: OneNode) -> dict[str, Stage]:
    """What the node says it does with each lease."""
    record = node.presence()
    return {one.lease_id: one.stage for one in record.busy} if record else {}


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def renderers_of(node: OneNode) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(node.work_dir) in word for word in process.cmdline()):
                found.append(process)
    return found


def rendering(node: OneNode, order: RenderOrder) -> bool:
    record = node.presence()
    return record is not None and any(
        one.lease_id == order.lease_id and one.stage is Stage.RENDERING for one in record.busy
    )


def test_frames_come_back_with_what_their_render_took(node: OneNode) -> None:
    orders = [node.order(f"{number:04d}") for number in range(1, 7)]
    wait_for(lambda: all(order.lease_id in node.depot.frames for order in orders))
    report = node.depot.reports[orders[0].lease_id]
    assert report["name"] == "frame_0001.png"
    assert int(report["memory_kb"]) >= 11089  # what the renderer said
    assert 0 < float(report["render_s"]) < 10
    assert int(report["cores"]) >= 1
    assert len({node.depot.frames[order.lease_id] for order in orders}) == 6
    wait_for(lambda: not any((node.work_dir / "scratch").iterdir()), 5)
    wait_for(lambda: not any((node.work_dir / "outbox").iterdir()), 5)


def test_two_slots_fetch_an_archive_once_and_tell_that_they_hold_it(node: OneNode) -> None:
    orders = [node.order(f"{number:04d}") for number in range(11, 15)]
    wait_for(lambda: all(order.lease_id in node.depot.frames for order in orders))
    held = sorted(ref.md5 for ref, _ in (renderer_archive(), scene_archive()))
    assert sorted(node.depot.fetched) == held
    wait_for(lambda: (record := node.presence()) and sorted(record.archives) == held)


def test_while_a_slot_renders_its_next_orders_wait_with_their_archives_and_the_last_frame_travels(
    fresh: OneNode,
) -> None:
    fresh.start().until_ready()
    fresh.depot.takes_frames.clear()
    travels = fresh.order("1")
    wait_for(lambda: stages(fresh) == {travels.lease_id: Stage.DELIVERING}, what="the first frame travels")
    renders = fresh.order(FOREVER)
    wait_for(lambda: rendering(fresh, renders))
    other = packed({"shots/scene.blend": b"another scene"})
    fresh.depot.archives[other[0].md5] = other[1]
    ready = [fresh.order(str(frame), scene_archives=(other[0],)) for frame in (2, 3, 4)]
    expected = {travels.lease_id: Stage.DELIVERING, renders.lease_id: Stage.RENDERING}
    wait_for(lambda: stages(fresh) == expected | {one.lease_id: Stage.WAITING for one in ready})
    assert fresh.depot.fetched.count(other[0].md5) == 1
    fresh.depot.takes_frames.set()
    wait_for(lambda: travels.lease_id in fresh.depot.frames)
    cancel_order(make_app(fresh.redis.url), "pc-03", renders.lease_id, renders.attempt)
    wait_for(lambda: all(one.lease_id in fresh.depot.frames for one in ready))
    rendered = [
        line.split("frame ")[1].split(" ")[0] for line in fresh.log.read_text().splitlines() if "rendered:" in line
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
def test_a_failure_is_told_apart_and_reported_with_its_log(node: OneNode, frame: str, kind: FailureKind) -> None:
    order = node.order(frame)
    failure = wait_for(lambda: node.depot.failures.get(order.lease_id))
    assert failure.kind is kind
    assert kind is FailureKind.BAD_ORDER or "Fra:" in failure.log


def test_a_scene_or_an_archive_that_is_not_there_is_a_failure(node: OneNode) -> None:
    no_scene = node.order("1", scene_path="shots/other.blend")
    outside = node.order("1", scene_path="../../node-id")
    no_archive = node.order("1", scene_archives=(ArchiveRef(md5="0" * 32, size=7),))
    wait_for(lambda: {one.lease_id for one in (no_scene, outside, no_archive)} <= node.depot.failures.keys())
    assert node.depot.failures[no_scene.lease_id].kind is FailureKind.BAD_ARCHIVE
    assert node.depot.failures[outside.lease_id].kind is FailureKind.BAD_ORDER
    assert node.depot.failures[no_archive.lease_id].kind is FailureKind.NO_ARCHIVE


def test_a_time_limit_ends_a_render(node: OneNode) -> None:
    order = node.order(FOREVER, time_limit_s=1)
    failure = wait_for(lambda: node.depot.failures.get(order.lease_id))
    assert failure.kind is FailureKind.TIME_LIMIT
    assert failure.render_s < 5
    assert not alive(daemon_of(node))


def test_a_picture_without_a_suffix_is_delivered_with_the_one_it_deserves(node: OneNode) -> None:
    order = node.order(NO_SUFFIX)
    report = wait_for(lambda: node.depot.reports.get(order.lease_id))
    assert report["name"] == "frame_0907.png"


def test_a_memory_limit_ends_a_render(node: OneNode) -> None:
    order = node.order(GREEDY)
    failure = wait_for(lambda: node.depot.failures.get(order.lease_id))
    assert failure.kind is FailureKind.OUT_OF_MEMORY
    assert "may hold 0.25 GB" in failure.reason
    assert "\n" not in failure.reason


def test_the_record_tells_what_the_node_is_apt_for(node: OneNode) -> None:
    record = node.presence()
    assert record
    assert record.tags == ("fast", "lab")
    assert record.warm == ()


def test_an_order_that_is_stale_or_comes_twice_is_dropped(node: OneNode) -> None:
    order = node.order(TWO_SECONDS)
    send_order(make_app(node.redis.url), sign_order(order, node.depot.key), order, "pc-03")
    wait_for(lambda: order.lease_id in node.depot.frames)
    assert node.depot.starts.count((order.lease_id, 1)) == 1

    fetched = len(node.depot.fetched)
    node.depot.stale.add("gone")
    stale = node.order("1", lease_id="gone", scene_archives=(ArchiveRef(md5="1" * 32, size=7),))
    sentinel = node.order("2")
    wait_for(lambda: sentinel.lease_id in node.depot.frames)
    assert stale.lease_id not in node.depot.frames | node.depot.failures
    assert len(node.depot.fetched) == fetched


def test_an_order_somebody_else_signed_is_refused(node: OneNode) -> None:
    with contextlib.closing(Events(node.redis.url)) as events:
        mine = node.order("1")
        wait_for(lambda: mine.lease_id in node.depot.frames)
        forged = sign_order(mine, Ed25519PrivateKey.generate())
        other = type(mine)(**{**vars(mine), "lease_id": "forged"})
        send_order(make_app(node.redis.url), forged, other, "pc-03")
        assert "not signed" in events.last(other, "task-failed")["exception"]
    assert "forged" not in node.depot.failures


def test_a_cancel_kills_the_whole_tree_within_two_seconds_and_is_not_reported(node: OneNode) -> None:
    with contextlib.closing(Events(node.redis.url)) as events:
        order = node.order(FOREVER)
        daemon = daemon_of(node)
        wait_for(lambda: rendering(node, order))
        began = time.monotonic()
        cancel_order(make_app(node.redis.url), "pc-03", order.lease_id, order.attempt)
        wait_for(lambda: not alive(daemon) and not any("900" in one.cmdline() for one in renderers_of(node)), 2)
        assert time.monotonic() - began < 2
        events.last(order, "task-revoked")
    assert order.lease_id not in node.depot.failures


def test_flower_sees_how_an_order_really_ended_and_no_secret(node: OneNode) -> None:
    with contextlib.closing(Events(node.redis.url)) as events:
        good, bad = node.order("0012"), node.order(CRASH)
        events.last(good, "task-succeeded")
        failed = events.last(bad, "task-failed")
        stale = node.order("13", lease_id="gone")
        node.depot.stale.add("gone")
        events.last(stale, "task-revoked")
        received = events.last(good, "task-received")
    assert received["args"] == "frame 0012 · demo · pc-03"
    assert events.of(good) == ["task-received", "task-started", "task-succeeded"]
    assert failed["exception"] == "FrameFailed('renderer crashed: the renderer died of SIGSEGV')"
    assert not failed["traceback"]
    shown = repr(events.seen)
    assert "SECRET_SCRIPT" not in shown
    assert sign_order(good, node.depot.key).signature not in shown


def test_no_secret_reaches_log_arguments_or_renderer(node: OneNode) -> None:
    order = node.order(NO_PICTURE)
    failure = wait_for(lambda: node.depot.failures.get(order.lease_id))
    assert "leaked: ['SHEEPFOLD_RENDER_MARK']" in failure.log
    assert node.process
    shown = node.log.read_text() + " ".join(psutil.Process(node.process.pid).cmdline()) + failure.log
    assert TOKEN not in shown
    assert node.redis.password not in shown


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_stop_gives_everything_back_and_is_gone(fresh: OneNode, how: int) -> None:
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
    given_back = [one for one in (first, *waiting) if one.lease_id in fresh.depot.failures]
    assert len(given_back) + still_in_redis >= 6
    assert first in given_back
    assert {fresh.depot.failures[one.lease_id].kind for one in given_back} == {FailureKind.NODE_LEAVING}


def test_no_renderer_outlives_a_worker_that_is_killed_with_minus_9(fresh: OneNode) -> None:
    fresh.start().until_ready()
    fresh.order(FOREVER)
    daemon = daemon_of(fresh)
    assert fresh.process
    guard = next(one for one in psutil.Process(fresh.process.pid).children() if "guard.py" in " ".join(one.cmdline()))
    began = time.monotonic()
    fresh.stop(signal.SIGKILL)
    wait_for(lambda: not alive(daemon) and not renderers_of(fresh), 2)
    print(f"gone after {time.monotonic() - began:.3f} s")
    wait_for(lambda: not alive(guard.pid), 5)


def test_a_frame_outlives_a_silent_coordinator_and_a_worker_restart(fresh: OneNode) -> None:
    fresh.start().until_ready()
    order = fresh.order(TWO_SECONDS)
    wait_for(lambda: rendering(fresh, order))
    fresh.depot.silent = True
    wait_for(lambda: any((fresh.work_dir / "outbox").iterdir()), what="a kept frame")
    assert fresh.stop() < 10
    fresh.depot.silent = False
    fresh.start()
    wait_for(lambda: order.lease_id in fresh.depot.frames)
    wait_for(lambda: not any((fresh.work_dir / "outbox").iterdir()))
    before, after = fresh.depot.joins
    assert after.kept == (f"{order.lease_id}.1",)
    assert before.fresh
    assert after.fresh
    assert before.node_id == after.node_id


def test_a_silent_coordinator_only_delays_a_delivery(fresh: OneNode) -> None:
    fresh.start().until_ready()
    order = fresh.order(TWO_SECONDS)
    wait_for(lambda: rendering(fresh, order))
    fresh.depot.silent = True
    wait_for(lambda: (record := fresh.presence()) and record.busy and record.busy[0].stage is Stage.DELIVERING)
    fresh.depot.silent = False
    wait_for(lambda: order.lease_id in fresh.depot.frames)


def test_a_worker_follows_the_coordinator_to_another_redis_and_loses_no_frame(fresh: OneNode, tmp_path: Path) -> None:
    fresh.program = (
        "import functools, sys; from render_tasks import cli;"
        "cli.PresenceWriter = functools.partial(cli.PresenceWriter, silence_s=1); sys.exit(cli.worker())"
    )
    fresh.start().until_ready()
    order = fresh.order(TWO_SECONDS)
    wait_for(lambda: rendering(fresh, order))
    assert fresh.process
    pid, old = fresh.process.pid, fresh.redis
    old.stop()
    fresh.redis = RedisServer(tmp_path)
    fresh.depot.redis_url = fresh.redis.url
    wait_for(lambda: order.lease_id in fresh.depot.frames)
    wait_for(fresh.presence, 30, "presence in the other Redis")
    again = fresh.order("7")
    wait_for(lambda: again.lease_id in fresh.depot.frames)
    assert fresh.process.pid == pid
    assert fresh.process.poll() is None
    assert fresh.stop() < 10


def test_a_worker_rides_out_a_redis_restart(fresh: OneNode) -> None:
    fresh.start().until_ready()
    order = fresh.order(TWO_SECONDS)
    wait_for(lambda: rendering(fresh, order))
    fresh.redis.stop()
    wait_for(lambda: order.lease_id in fresh.depot.frames)
    fresh.redis.start()
    again = fresh.order("8")
    wait_for(lambda: again.lease_id in fresh.depot.frames, 30)


def test_a_stop_while_redis_is_away_takes_less_than_ten_seconds(fresh: OneNode) -> None:
    fresh.start().until_ready()
    fresh.redis.stop()
    wait_for(lambda: b"onnection" in fresh.log.read_bytes().split(b"ready.")[1], 10, "the loss is noticed")
    assert fresh.stop() < 10


def test_a_worker_waits_for_its_coordinator_and_stops_while_it_waits(fresh: OneNode) -> None:
    fresh.depot.silent = True
    fresh.start()
    wait_for(lambda: b"asking again" in fresh.log.read_bytes())
    assert fresh.stop() < 3
    assert fresh.process
    assert fresh.process.returncode == 0


def test_a_wrong_token_is_one_clear_line_and_exit_code_3(fresh: OneNode) -> None:
    fresh.settings["SHEEPFOLD_FARM_TOKEN"] = "another"
    fresh.start()
    assert fresh.process
    assert fresh.process.wait(15) == 3
    lines = fresh.log.read_text().splitlines()
    assert len(lines) == 1
    assert "SHEEPFOLD_FARM_TOKEN" in lines[0]
    assert "another" not in lines[0]


def test_a_second_worker_in_the_same_folder_is_refused(fresh: OneNode) -> None:
    fresh.start().until_ready()
    first = fresh.process
    fresh.start()
    assert fresh.process
    assert fresh.process.wait(15) == 2
    assert "SHEEPFOLD_WORK_DIR: another worker uses" in fresh.log.read_text()
    fresh.process = first


def test_a_guard_that_was_killed_is_replaced(fresh: OneNode) -> None:
    fresh.start().until_ready()
    assert fresh.process
    worker = psutil.Process(fresh.process.pid)
    guard = next(one for one in worker.children() if "guard.py" in " ".join(one.cmdline()))
    os.kill(guard.pid, signal.SIGKILL)
    fresh.order(FOREVER)
    daemon = daemon_of(fresh)
    fresh.stop(signal.SIGKILL)
    wait_for(lambda: not alive(daemon) and not renderers_of(fresh), 2)
