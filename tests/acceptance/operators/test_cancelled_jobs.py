"""Times that an operator is promised: from a project to its first frame, and from `sheepfold cancel` to silence."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.farm.faulty_farm import FaultyFarm, Project
from tests.support.farm.render_processes import measured
from tests.support.farm.running_farm import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

#: The promise, seconds.
FIRST_FRAME_WITHIN_S = 5.0
FREE_WITHIN_S = 5.0
#: The farm as it is without settings: it asks a server that says nothing of it every quarter of an hour.
DEFAULT_WAITS = {"SHEEPFOLD_NO_JOB_WAIT_S": "900", "SHEEPFOLD_RETRY_WAIT_S": "5"}
#: Forty frames in hand on two PCs.
LONG_QUEUE = {"SHEEPFOLD_LOOK_AHEAD": "10", "SHEEPFOLD_SLOTS": "2", "SHEEPFOLD_MAX_FRAME_ERRORS": "100"}


@pytest.fixture(scope="module")
def default_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path_factory.mktemp("patient"), environment=DEFAULT_WAITS)
    try:
        farm.begin("pc-01")
        yield farm
    finally:
        farm.end()


@pytest.fixture
def long_queue_farm(tmp_path: Path) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path, environment=LONG_QUEUE)
    try:
        yield farm
    finally:
        farm.end()


def idle(farm: FaultyFarm) -> None:
    """The server was asked, and has nothing."""
    wait_for("the server has no job", lambda: "no job" in farm.status()["sessions"][0]["notice"], 20)


def until_first_frame_s(farm: FaultyFarm, project: Project, submitted: float, within_s: float) -> float:
    wait_for("a renderer began", project.starts, within_s)
    took_s = time.monotonic() - submitted
    measured("first frame began after (s)", took_s)
    farm.wait_until_accepted(project, 1)
    return took_s


def test_a_project_begins_within_five_seconds_on_an_idle_farm_with_default_settings(default_farm: FaultyFarm) -> None:
    for _ in range(3):
        idle(default_farm)
        submitted = time.monotonic()
        project = default_farm.submit("1")
        assert until_first_frame_s(default_farm, project, submitted, 20) < FIRST_FRAME_WITHIN_S


def test_and_after_its_server_was_away(default_farm: FaultyFarm) -> None:
    idle(default_farm)
    default_farm.stop("server")
    time.sleep(12)
    default_farm.start_server("--faults", "--renderer", f"linux/64bit={default_farm.folder / 'renderer.zip'}")
    submitted = time.monotonic()
    project = default_farm.submit("1")
    assert until_first_frame_s(default_farm, project, submitted, 20) < FIRST_FRAME_WITHIN_S


def answer_without_a_wait(farm: FaultyFarm) -> None:
    """The server says "no job" as one of other origin does: not when to ask again."""
    idle(farm)
    farm.fault("request-job", "status:200")
    wait_for("it waits long", lambda: (farm.status()["sessions"][0]["asked_in_s"] or 0) > 600, 20)


def test_any_other_server_is_asked_when_a_person_says_so_and_until_then_the_status_tells_when(
    default_farm: FaultyFarm,
) -> None:
    answer_without_a_wait(default_farm)
    assert re.search(r"asks again\s+in\s+\d\d\s+min", default_farm.run("status", COLUMNS="200").stdout)
    project = default_farm.submit("1")
    time.sleep(3)
    assert not project.starts()
    asked = time.monotonic()
    command = default_farm.run("ask")
    assert (command.returncode, command.stdout) == (0, "linux/64bit: asking now\n")
    assert until_first_frame_s(default_farm, project, asked, 20) < FIRST_FRAME_WITHIN_S
    assert re.search(r"asking again in \d\d min", default_farm.log_text("coordinator"))


def test_a_pc_that_joins_asks_too(default_farm: FaultyFarm) -> None:
    answer_without_a_wait(default_farm)
    project = default_farm.submit("1")
    default_farm.start_worker("pc-02")
    default_farm.wait_until_here("pc-02")
    assert until_first_frame_s(default_farm, project, time.monotonic(), 20) < FIRST_FRAME_WITHIN_S


def lease_forty_frames(farm: FaultyFarm) -> Project:
    """A job whose forty frames the farm holds, and renders some of."""
    project = farm.submit("1-40", acts={"*": "gate"})
    wait_for("all are in hand", lambda: farm.active() == 40, 30)
    wait_for("four render", lambda: len(project.starts()) == 4, 20)
    return project


def leased(farm: FaultyFarm, project: Project) -> int:
    return farm.at_server(project)["leased"]


def test_a_cancelled_job_starts_nothing_more_and_is_free_at_its_server(long_queue_farm: FaultyFarm) -> None:
    long_queue_farm.begin("pc-01", "pc-02")
    project = lease_forty_frames(long_queue_farm)
    command = long_queue_farm.run("cancel", project.name)
    answered = time.monotonic()
    assert command.stdout.splitlines() == [
        f"40 frames cancelled of job {project.id} '{project.name}'; at the server: its project is cancelled there too",
        f"nothing of it is rendered here until: sheepfold unblock {project.id}",
    ]
    wait_for("all its frames are free", lambda: leased(long_queue_farm, project) == 0, FREE_WITHIN_S)
    measured("all frames free after (s)", time.monotonic() - answered)
    assert long_queue_farm.at_server(project)["state"] == "cancelled"
    assert long_queue_farm.active() == 0
    project.open()
    time.sleep(max(0, answered + 6 - time.monotonic()))
    assert len(project.starts()) == 4, "no frame of it starts after the answer"
    assert long_queue_farm.accounting()["grants"] == 40
    assert long_queue_farm.accounting()["errors"] == 0
    [block] = long_queue_farm.status()["blocked"]
    assert f"job {project.id} · {project.name} is blocked" in long_queue_farm.run("status", COLUMNS="200").stdout
    assert (block["by"], block["reason"]) == ("operator", "cancelled by the operator")

    command = long_queue_farm.run("unblock", str(project.id))
    assert (command.returncode, command.stdout) == (0, f"job {project.id} · {project.name} may be rendered again\n")
    long_queue_farm.wait_until_accepted(project, 40, within_s=60)


def test_at_a_server_of_other_origin_its_frames_go_back_and_offers_are_turned_away(
    long_queue_farm: FaultyFarm,
) -> None:
    """An account that may not manage projects has to do as at any other server: frame by frame."""
    long_queue_farm.begin()
    long_queue_farm.api("PUT", "/api/accounts/guest", json={"password": "guest-word"})
    long_queue_farm.stop("coordinator")
    long_queue_farm.start_coordinator(SHEEPFOLD_LOGIN="guest", SHEEPFOLD_PASSWORD="guest-word")
    for pc in ("pc-01", "pc-02"):
        long_queue_farm.start_worker(pc)
    project = lease_forty_frames(long_queue_farm)
    command = long_queue_farm.run("cancel", str(project.id))
    answered = time.monotonic()
    assert command.stdout.startswith(f"40 frames cancelled of job {project.id} '{project.name}'\n")
    wait_for("all its frames are free", lambda: leased(long_queue_farm, project) == 0, FREE_WITHIN_S)
    measured("all frames free after (s)", time.monotonic() - answered)
    assert long_queue_farm.accounting()["errors"] >= 40
    time.sleep(max(0, answered + 6 - time.monotonic()))
    assert len(project.starts()) == 4, "no frame of it starts after the answer"
    # Waits of 0.1 s that double: fewer than ten questions in six seconds, four at a time at most.
    offered = long_queue_farm.accounting()["grants"] - 40
    assert 0 < offered < 20
    assert long_queue_farm.accounting()["errors"] == 40 + offered, "each offer was given back"
    assert "is blocked: cancelled by the operator" in long_queue_farm.error_log(project, 1)
    assert "blocked here" in long_queue_farm.status()["sessions"][0]["notice"]

    long_queue_farm.stop("coordinator")
    long_queue_farm.start_coordinator(SHEEPFOLD_LOGIN="guest", SHEEPFOLD_PASSWORD="guest-word")
    assert [block["job_id"] for block in long_queue_farm.status()["blocked"]] == [str(project.id)], (
        "a restart forgets nothing"
    )
    project.open()
    assert long_queue_farm.run("unblock", project.name).returncode == 0
    long_queue_farm.wait_until_accepted(project, 40, within_s=60)


def test_a_job_that_is_not_there_is_said_with_those_that_are(default_farm: FaultyFarm) -> None:
    known = default_farm.submit("1")
    default_farm.wait_until_accepted(known, 1)
    command = default_farm.run("cancel", "nonsense")
    assert command.returncode == 1
    assert command.stdout == ""
    assert command.stderr.startswith("there is no job 'nonsense' here; jobs there are: ")
    assert f"{known.id} '{known.name}'" in command.stderr
    command = default_farm.run("unblock", "nonsense")
    assert (command.returncode, command.stderr) == (1, "there is no job 'nonsense' here; blocked are: none\n")
