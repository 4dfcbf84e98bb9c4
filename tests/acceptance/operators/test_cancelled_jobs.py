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
PATIENT = {"SHEEPFOLD_NO_JOB_WAIT_S": "900", "SHEEPFOLD_RETRY_WAIT_S": "5"}
#: Forty frames in hand on two PCs.
HOARDING = {"SHEEPFOLD_LOOK_AHEAD": "10", "SHEEPFOLD_SLOTS": "2", "SHEEPFOLD_MAX_FRAME_ERRORS": "100"}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path_factory.mktemp("patient"), environment=PATIENT)
    try:
        farm.begin("pc-01")
        yield farm
    finally:
        farm.end()


@pytest.fixture
def hoarding(tmp_path: Path) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path, environment=HOARDING)
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


def test_a_project_begins_within_five_seconds_on_an_idle_farm_with_default_settings(patient: FaultyFarm) -> None:
    for _ in range(3):
        idle(patient)
        submitted = time.monotonic()
        project = patient.submit("1")
        assert until_first_frame_s(patient, project, submitted, 20) < FIRST_FRAME_WITHIN_S


def test_and_after_its_server_was_away(patient: FaultyFarm) -> None:
    idle(patient)
    patient.stop("server")
    time.sleep(12)
    patient.start_server("--faults", "--renderer", f"linux/64bit={patient.folder / 'renderer.zip'}")
    submitted = time.monotonic()
    project = patient.submit("1")
    assert until_first_frame_s(patient, project, submitted, 20) < FIRST_FRAME_WITHIN_S


def without_a_word(farm: FaultyFarm) -> None:
    """The server says "no job" as one of other origin does: not when to ask again."""
    idle(farm)
    farm.fault("request-job", "status:200")
    wait_for("it waits long", lambda: (farm.status()["sessions"][0]["asked_in_s"] or 0) > 600, 20)


def test_any_other_server_is_asked_when_a_person_says_so_and_until_then_the_status_tells_when(
    patient: FaultyFarm,
) -> None:
    without_a_word(patient)
    assert re.search(r"asks again\s+in\s+\d\d\s+min", patient.run("status", COLUMNS="200").stdout)
    project = patient.submit("1")
    time.sleep(3)
    assert not project.starts()
    asked = time.monotonic()
    said = patient.run("ask")
    assert (said.returncode, said.stdout) == (0, "linux/64bit: asking now\n")
    assert until_first_frame_s(patient, project, asked, 20) < FIRST_FRAME_WITHIN_S
    assert re.search(r"asking again in \d\d min", patient.log_text("coordinator"))


def test_a_pc_that_joins_asks_too(patient: FaultyFarm) -> None:
    without_a_word(patient)
    project = patient.submit("1")
    patient.start_worker("pc-02")
    patient.wait_until_here("pc-02")
    assert until_first_frame_s(patient, project, time.monotonic(), 20) < FIRST_FRAME_WITHIN_S


def forty_in_hand(farm: FaultyFarm) -> Project:
    """A job whose forty frames the farm holds, and renders some of."""
    project = farm.submit("1-40", acts={"*": "gate"})
    wait_for("all are in hand", lambda: farm.active() == 40, 30)
    wait_for("four render", lambda: len(project.starts()) == 4, 20)
    return project


def leased(farm: FaultyFarm, project: Project) -> int:
    return farm.at_server(project)["leased"]


def test_a_cancelled_job_starts_nothing_more_and_is_free_at_its_server(hoarding: FaultyFarm) -> None:
    hoarding.begin("pc-01", "pc-02")
    project = forty_in_hand(hoarding)
    said = hoarding.run("cancel", project.name)
    answered = time.monotonic()
    assert said.stdout.splitlines() == [
        f"40 frames cancelled of job {project.id} '{project.name}'; at the server: its project is cancelled there too",
        f"nothing of it is rendered here until: sheepfold unblock {project.id}",
    ]
    wait_for("all its frames are free", lambda: leased(hoarding, project) == 0, FREE_WITHIN_S)
    measured("all frames free after (s)", time.monotonic() - answered)
    assert hoarding.at_server(project)["state"] == "cancelled"
    assert hoarding.active() == 0
    project.open()
    time.sleep(max(0, answered + 6 - time.monotonic()))
    assert len(project.starts()) == 4, "no frame of it starts after the answer"
    assert hoarding.books()["grants"] == 40
    assert hoarding.books()["errors"] == 0
    [block] = hoarding.status()["blocked"]
    assert f"job {project.id} · {project.name} is blocked" in hoarding.run("status", COLUMNS="200").stdout
    assert (block["by"], block["reason"]) == ("operator", "cancelled by the operator")

    said = hoarding.run("unblock", str(project.id))
    assert (said.returncode, said.stdout) == (0, f"job {project.id} · {project.name} may be rendered again\n")
    hoarding.wait_until_accepted(project, 40, within_s=60)


def test_at_a_server_of_other_origin_its_frames_go_back_and_offers_are_turned_away(hoarding: FaultyFarm) -> None:
    """An account that may not manage projects has to do as at any other server: frame by frame."""
    hoarding.begin()
    hoarding.api("PUT", "/api/accounts/guest", json={"password": "guest-word"})
    hoarding.stop("coordinator")
    hoarding.start_coordinator(SHEEPFOLD_LOGIN="guest", SHEEPFOLD_PASSWORD="guest-word")
    for pc in ("pc-01", "pc-02"):
        hoarding.start_worker(pc)
    project = forty_in_hand(hoarding)
    said = hoarding.run("cancel", str(project.id))
    answered = time.monotonic()
    assert said.stdout.startswith(f"40 frames cancelled of job {project.id} '{project.name}'\n")
    wait_for("all its frames are free", lambda: leased(hoarding, project) == 0, FREE_WITHIN_S)
    measured("all frames free after (s)", time.monotonic() - answered)
    assert hoarding.books()["errors"] >= 40
    time.sleep(max(0, answered + 6 - time.monotonic()))
    assert len(project.starts()) == 4, "no frame of it starts after the answer"
    # Waits of 0.1 s that double: fewer than ten questions in six seconds, four at a time at most.
    offered = hoarding.books()["grants"] - 40
    assert 0 < offered < 20
    assert hoarding.books()["errors"] == 40 + offered, "each offer was given back"
    assert "is blocked: cancelled by the operator" in hoarding.error_log(project, 1)
    assert "blocked here" in hoarding.status()["sessions"][0]["notice"]

    hoarding.stop("coordinator")
    hoarding.start_coordinator(SHEEPFOLD_LOGIN="guest", SHEEPFOLD_PASSWORD="guest-word")
    assert [block["job_id"] for block in hoarding.status()["blocked"]] == [str(project.id)], "a restart forgets nothing"
    project.open()
    assert hoarding.run("unblock", project.name).returncode == 0
    hoarding.wait_until_accepted(project, 40, within_s=60)


def test_a_job_that_is_not_there_is_said_with_those_that_are(patient: FaultyFarm) -> None:
    known = patient.submit("1")
    patient.wait_until_accepted(known, 1)
    said = patient.run("cancel", "nonsense")
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr.startswith("there is no job 'nonsense' here; jobs there are: ")
    assert f"{known.id} '{known.name}'" in said.stderr
    said = patient.run("unblock", "nonsense")
    assert (said.returncode, said.stderr) == (1, "there is no job 'nonsense' here; blocked are: none\n")
