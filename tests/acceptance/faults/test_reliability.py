"""Whatever dies, every frame comes to one end: one fault a test, with real processes.

``docs/explanation/reliability.md`` names the promise behind each of them. Seconds that a test measures are shown by
``pytest -rP``.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from coordinator.broker.redis_discovery import find_redis
from sheepfold.contract.orders import queue_of
from tests.support.farm.faulty_farm import TWO_PCS, FaultyFarm, Project
from tests.support.farm.render_processes import measured, seconds_until_gone
from tests.support.farm.running_farm import free_port, wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

#: A node silent for 15 s is lost; the sweep looks once a second, and a PC must pick the order up.
LOST_NODE_S = 20


def starts_by_frame(project: Project) -> dict[int, int]:
    """Frame → how often its renderer was started."""
    started = [start.frame for start in project.starts()]
    return {frame: started.count(frame) for frame in started}


# A PC dies


def test_a_worker_killed_hard_leaves_no_renderer_and_its_frame_goes_to_another_pc(farm: FaultyFarm) -> None:
    project = farm.submit("1", acts={"1:*": "(setsid sleep 600 &); gate"})
    first = farm.wait_until_started(project, 1)
    renderers = farm.renderers_of(first.pc)
    assert len(renderers) >= 2, "the renderer and the daemon it made"
    killed = farm.kill(first.pc)
    measured("renderer gone after (s)", seconds_until_gone(renderers, 1))

    second = farm.wait_until_started(project, 1, times=2, within_s=LOST_NODE_S)
    measured("frame begun elsewhere after (s)", time.monotonic() - killed)
    assert (second.pc != first.pc, second.lease_id, second.attempt) == (True, first.lease_id, 2)
    project.open()
    farm.wait_until_accepted(project, 1)
    (lease,) = farm.leases(project)
    wait_for("the ledger has the answer", lambda: farm.leases(project)[0]["state"] == "accepted", 5)
    assert lease["failures"] == 0, "a lost PC uses up no attempt"
    maker = farm.maker(project, 1)
    assert maker is not None
    assert maker.attempt == 2


def test_a_worker_that_is_started_again_gives_its_frame_back_at_once(farm: FaultyFarm) -> None:
    project = farm.submit("1", acts={"1:*": "gate"})
    first = farm.wait_until_started(project, 1)
    farm.kill(first.pc)
    farm.start_worker(first.pc)
    began = time.monotonic()
    assert farm.wait_until_started(project, 1, times=2, within_s=10).attempt == 2
    measured("frame begun again after (s)", time.monotonic() - began)
    project.open()
    farm.wait_until_accepted(project, 1)
    assert len(project.starts()) == 2


def test_a_pc_that_froze_is_replaced_and_its_late_picture_is_dropped(farm: FaultyFarm) -> None:
    project = farm.submit("1", acts={"1:*": "gate"})
    first = farm.wait_until_started(project, 1)
    again = farm.accounting()["again"]
    with farm.frozen(first.pc):
        frozen_at = time.monotonic()
        second = farm.wait_until_started(project, 1, times=2, within_s=LOST_NODE_S)
        assert second.attempt == 2
        project.open()  # both renders go on to their end
        farm.wait_until_accepted(project, 1)
        time.sleep(max(0.0, frozen_at + 20 - time.monotonic()))
    label = f"frame 0001 · {project.name} is dropped"
    wait_for("it drops what is no longer its own", lambda: label in farm.log_text(first.pc), 10)
    wait_for("and keeps nothing of it", lambda: farm.kept_pictures(first.pc) == 0, 5)
    maker = farm.maker(project, 1)
    assert maker is not None
    assert maker.pc == second.pc
    assert farm.accounting()["again"] == again, "the late picture never reached the server"

    farm.wait_until_here(first.pc)
    more = farm.submit("1-8", seconds=0.3)
    farm.wait_until_accepted(more, 8)
    assert {start.pc for start in more.starts()} == set(TWO_PCS), "it works again"


# Orders


def test_an_order_delivered_twice_is_rendered_once(farm: FaultyFarm) -> None:
    with closing(farm.redis()) as broker, orders_sent_through(broker) as orders:
        project = farm.submit("1", acts={"1:*": "gate"})
        farm.wait_until_started(project, 1)
        queue, message = orders[0]
        broker.lpush(queue, message)  # while it renders ...
        refused = "refused an order: it was followed here before"
        wait_for("the second copy is refused", lambda: any(refused in farm.log_text(pc) for pc in TWO_PCS), 10)
        project.open()
        farm.wait_until_accepted(project, 1)
        broker.lpush(queue, message)  # ... and when it is done
        wait_for("the third copy is taken", lambda: not broker.exists(queue), 10)
        # What came after it into the same queue is rendered: it was looked at by then.
        farm.wait_until_accepted(farm.submit("1-6"), 6)
    assert len(project.starts()) == 1


@contextmanager
def orders_sent_through(broker: redis.Redis) -> Iterator[list[tuple[str, str]]]:
    """Queue and message of every order sent inside the block, as Redis saw them."""
    seen: list[tuple[str, str]] = []

    def listen(monitor: Any) -> None:
        for event in monitor.listen():
            word, _, rest = event["command"].partition(" ")
            if word == "ECHO":
                return
            if word == "LPUSH" and rest.startswith("farm."):
                queue, _, message = rest.partition(" ")
                json.loads(message)
                seen.append((queue, message))

    with broker.monitor() as monitor:
        listener = threading.Thread(target=listen, args=(monitor,), daemon=True)
        listener.start()
        try:
            yield seen
        finally:
            broker.echo("enough")
            listener.join(5)


def test_an_order_lost_on_its_way_is_ordered_again(farm: FaultyFarm) -> None:
    ids = {node["name"]: node["id"] for node in farm.status()["nodes"]}
    queues = [queue_of(ids[pc]) for pc in TWO_PCS]
    with contextlib.ExitStack() as frozen, closing(farm.redis()) as broker:
        for pc in TWO_PCS:  # nobody takes orders, everybody is there
            frozen.enter_context(farm.frozen(pc))
        for client in broker.client_list():  # a worker that waits would be given the order at once
            if client["cmd"] == "brpop":
                broker.client_kill_filter(_id=client["id"])
        project = farm.submit("1")
        wait_for("the order waits in a queue", lambda: any(broker.exists(queue) for queue in queues), 10)
        broker.delete(*queues)
    lost_at = time.monotonic()
    farm.wait_until_accepted(project, 1, within_s=45)
    measured("accepted after (s)", time.monotonic() - lost_at)
    assert [start.attempt for start in project.starts()] == [2]


# The coordinator dies


def test_a_coordinator_killed_hard_comes_back_with_its_leases_and_its_server_session(farm: FaultyFarm) -> None:
    project = farm.submit("1-6", acts={"*": "gate"})
    wait_for("both PCs render", lambda: {start.pc for start in project.starts()} == set(TWO_PCS), 20)
    done, going_on = (start.frame for start in project.starts())
    sign_ins, expiries = farm.log_text("server").count("signed in"), farm.accounting()["expiries"]
    before = {row["id"]: row["attempt"] for row in farm.leases(project)}

    killed = farm.kill("coordinator")
    project.open(done)
    wait_for("the finished picture is kept", lambda: sum(map(farm.kept_pictures, TWO_PCS)) == 1, 10)
    due = farm.at_server(project, going_on)["expires_at"]
    farm.start_coordinator()
    measured("answers after (s)", time.monotonic() - killed)
    wait_for("beats go on", lambda: farm.at_server(project, going_on)["expires_at"] > due, 5)
    measured("beats after (s)", time.monotonic() - killed)
    wait_for("the kept picture is taken", lambda: farm.at_server(project, done)["state"] == "accepted", 15)
    project.open()
    farm.wait_until_accepted(project, 6)

    after = {row["id"]: row["attempt"] for row in farm.leases(project)}
    assert before.items() <= after.items(), "the same leases at the same attempt"
    assert starts_by_frame(project) == dict.fromkeys(range(1, 7), 1), "nothing was rendered twice"
    assert farm.log_text("server").count("signed in") == sign_ins, "the same server session"
    assert farm.accounting()["expiries"] == expiries, "the server missed no beat"


def test_pictures_that_wait_for_the_server_survive_a_coordinator_killed_hard(farm: FaultyFarm) -> None:
    farm.fault("validate-job", "http:503", 1000)
    project = farm.submit("1-3")
    wait_for(
        "three pictures wait",
        lambda: [row["state"] for row in farm.leases(project)] == ["delivered"] * 3,
        20,
    )
    farm.kill("coordinator")
    farm.api("DELETE", "/api/faults")
    farm.start_coordinator()
    farm.wait_until_accepted(project, 3)
    assert starts_by_frame(project) == {1: 1, 2: 1, 3: 1}


def test_a_coordinator_told_to_stop_reports_what_is_unfinished_and_logs_out(farm: FaultyFarm) -> None:
    project = farm.submit("1-6", acts={"*": "gate"})
    wait_for("both PCs render", lambda: {start.pc for start in project.starts()} == set(TWO_PCS), 20)
    wait_for("the look-ahead is full", lambda: farm.at_server(project)["leased"] == 4, 10)
    log_outs = farm.log_text("server").count("logged out")
    began = time.monotonic()
    assert farm.stop("coordinator") == 0
    measured("stopped after (s)", time.monotonic() - began)
    shown = farm.at_server(project)
    assert (shown["failed"], shown["leased"]) == (4, 0), "each one was reported with its frame"
    assert "node leaving" in farm.error_log(project, 1)
    assert farm.log_text("server").count("logged out") == log_outs + 1
    wait_for("their renderers are gone", lambda: is_idle(farm), 5)


def is_idle(farm: FaultyFarm) -> bool:
    """Whether no PC renders."""
    return not any(farm.renderers_of(pc) for pc in TWO_PCS)


def test_the_ledger_is_copied_while_frames_come_and_go(farm: FaultyFarm, tmp_path: Path) -> None:
    project = farm.submit("1-5000", seconds=0.05)
    farm.wait_until_started(project, 5)
    copy, before = tmp_path / "copy.sqlite", farm.at_server(project)["accepted"]
    done = farm.run("ledger", "backup", str(copy))
    assert done.returncode == 0, done.stderr
    after = farm.at_server(project)["accepted"]
    assert before < after < 5000, "frames came and went meanwhile"
    with closing(sqlite3.connect(copy)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert ledger.execute("SELECT count(*) FROM leases WHERE job_id = ?", (str(project.id),)).fetchone()[0] >= 5
    wait_for("frames go on", lambda: farm.at_server(project)["accepted"] >= after + 10, 20)


# Redis dies


def test_the_farms_own_redis_is_killed_hard_and_the_farm_goes_on(farm: FaultyFarm) -> None:
    project = farm.submit("1-8", acts={"*": "gate"})
    wait_for("both PCs render", lambda: {start.pc for start in project.starts()} == set(TWO_PCS), 20)
    rendering = [start.frame for start in project.starts()]
    killed = farm.kill_redis()
    for frame in rendering:
        project.open(frame)
    for frame in rendering:
        wait_for(
            "what was finished is delivered, Redis or not",
            lambda frame=frame: farm.at_server(project, frame)["state"] == "accepted",
            15,
        )
    measured("delivered after (s)", time.monotonic() - killed)
    project.open()
    farm.wait_until_accepted(project, 8, within_s=60)
    measured("all accepted after (s)", time.monotonic() - killed)
    assert starts_by_frame(project) == dict.fromkeys(range(1, 9), 1), "nothing was rendered twice"


class OwnRedis:
    """A Redis server that the studio runs itself."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://:secret-of-the-test@127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it on its data; answering."""
        words = f"--port {self.port} --bind 127.0.0.1 --requirepass secret-of-the-test --appendonly yes --save".split()
        self._process = subprocess.Popen(
            [str(find_redis()), *words, "", "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        with closing(redis.Redis.from_url(self.url)) as client:
            wait_for("Redis answers", lambda: redis_answers(client), 10)

    def kill(self) -> None:
        """kill -9."""
        assert self._process
        self._process.kill()
        self._process.wait()


def redis_answers(client: redis.Redis) -> bool:
    """Whether this Redis takes commands."""
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis of the studio's own, running."""
    server = OwnRedis(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def test_a_studios_redis_is_killed_hard_and_stays_away_for_a_while(tmp_path: Path, own_redis: OwnRedis) -> None:
    farm = FaultyFarm(tmp_path, environment={"SHEEPFOLD_REDIS_URL": own_redis.url})
    try:
        farm.begin("pc-01")
        project = farm.submit("1-4", acts={"*": "gate"})
        first = farm.wait_until_any_started(project).frame
        own_redis.kill()
        project.open(first)
        wait_for("it is delivered", lambda: farm.at_server(project, first)["state"] == "accepted", 15)
        project.open()
        time.sleep(3)
        own_redis.start()
        back = time.monotonic()
        farm.wait_until_accepted(project, 4, within_s=40)
        measured("all accepted after its return (s)", time.monotonic() - back)
        assert starts_by_frame(project) == {1: 1, 2: 1, 3: 1, 4: 1}
        assert farm.stop("pc-01") == 0
        assert farm.stop("coordinator") == 0
    finally:
        farm.end()


# Two coordinators


def test_a_second_coordinator_is_refused_and_takes_over_when_the_first_died(
    tmp_path: Path, own_redis: OwnRedis
) -> None:
    farm = FaultyFarm(tmp_path, environment={"SHEEPFOLD_REDIS_URL": own_redis.url})
    try:
        farm.begin()
        first = farm.processes["coordinator"].pid
        farm.coordinator_url = f"http://127.0.0.1:{free_port()}"
        elsewhere = {"SHEEPFOLD_STATE_DIR": str(tmp_path / "second")}
        refused = farm.run("coordinator", **elsewhere)
        assert refused.returncode == 1
        assert f"process {first}" in refused.stderr.splitlines()[-1]

        killed = farm.kill("coordinator")
        while farm.run_until_ready("coordinator", **elsewhere) is None:
            assert time.monotonic() < killed + 30, "30 s after the first died"
        measured("took over after (s)", time.monotonic() - killed)
        assert time.monotonic() < killed + 30
        assert farm.stop("coordinator") == 0
    finally:
        farm.end()


# Cancelling


@pytest.mark.parametrize("who", ["operator", "server"])
def test_a_cancelled_frame_is_gone_with_its_whole_tree_and_its_server_knows(farm: FaultyFarm, who: str) -> None:
    project = farm.submit("1", acts={"1:*": "hang"})
    start = farm.wait_until_started(project, 1)
    wait_for("its daemons are there", lambda: len(farm.renderers_of(start.pc)) >= 3, 5)
    renderers = farm.renderers_of(start.pc)
    errors = farm.accounting()["errors"]
    if who == "operator":
        assert "1 frame cancelled" in farm.run("cancel", f"{project.id}:0001").stdout
    else:
        farm.api("POST", f"/api/projects/{project.id}/cancel")
        wait_for("a beat was answered 400", lambda: farm.leases(project)[0]["state"] == "cancelled", 5)
    cancelled_at = farm.leases(project)[0]["changed_at"]
    seconds_until_gone(renderers, 2)
    measured("gone after (s)", time.time() - cancelled_at)
    assert time.time() - cancelled_at < 2
    (lease,) = farm.leases(project)
    assert lease["state"] == "cancelled"
    wait_for("the PC is idle", lambda: not farm.node(start.pc)["busy"], 10)
    wait_for("no report waits", lambda: not list((farm.folder / "coordinator" / "reports").iterdir()), 5)
    # The server knows what it cancelled itself; what the operator cancels goes back to it.
    assert farm.accounting()["errors"] == errors + (who == "operator")
    assert farm.at_server(project)["leased"] == 0
