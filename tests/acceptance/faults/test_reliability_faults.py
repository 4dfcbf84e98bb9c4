"""A server that misbehaves and renderers that fail: one fault a test, with real processes.

``docs/explanation/reliability.md`` names the promise behind each of them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.farm.faulty_farm import TWO_PCS, FaultyFarm, Project
from tests.support.farm.running_farm import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

#: What happens for every frame, and those of it whose answer is a message with a status.
EXCHANGES = ("request-job", "download-archive", "keepmealive", "validate-job")
STATUSES = ("request-job", "keepmealive", "validate-job")


def counted_since(farm: FaultyFarm, before: dict[str, int]) -> dict[str, int]:
    """What the server counted since ``before``, without what stayed as it was."""
    now = farm.accounting()
    return {
        what: now[what] - before[what]
        for what in ("accepted", "again", "refusals", "errors", "expiries")
        if now[what] != before[what]
    }


def end_states(farm: FaultyFarm, project: Project) -> list[str]:
    """How the project's leases ended, by frame."""
    return [row["state"] for row in sorted(farm.leases(project), key=lambda row: row["frame"])]


# The server misbehaves


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(dict.fromkeys(EXCHANGES, "http:500"), id="500"),
        pytest.param(dict.fromkeys(EXCHANGES, "http:408"), id="408"),
        pytest.param(dict.fromkeys(EXCHANGES, "drop"), id="dropped connections"),
        pytest.param(dict.fromkeys(EXCHANGES, "garbage"), id="garbage"),
        pytest.param(dict.fromkeys(EXCHANGES, "slow:1"), id="slow answers"),
        pytest.param({"download-archive": "half", "keepmealive": "half"}, id="half answers"),
        pytest.param({"download-archive": "wrong-md5", "keepmealive": "lost"}, id="wrong MD5"),
        pytest.param({"request-job": "status:202", "keepmealive": "status:202"}, id="session dead (202)"),
        pytest.param({"validate-job": "status:304"}, id="session dead (304)"),
        pytest.param({"validate-job": "status:303"}, id="upload failed (303)"),
        pytest.param(dict.fromkeys(STATUSES, "status:999"), id="unknown status"),
    ],
)
def test_faults_of_the_server_cost_time_and_nothing_else(farm: FaultyFarm, faults: dict[str, str]) -> None:
    """Given the same fault at every exchange, twice in a row, each frame is rendered once and accepted."""
    before = farm.accounting()
    # A download that is only slow is not asked for again.
    times = {
        (exchange, action): 1 if (exchange, action) == ("download-archive", "slow:1") else 2
        for exchange, action in faults.items()
    }
    for (exchange, action), count in times.items():
        farm.fault(exchange, action, count)
    project = farm.submit("1-3", seconds=1.2)
    farm.wait_until_accepted(project, 3)
    now = farm.accounting()["faults"]
    happened = {fault: now.get(" ".join(fault), 0) - before["faults"].get(" ".join(fault), 0) for fault in times}
    assert happened == times
    assert counted_since(farm, before) == {"accepted": 3}
    assert [start.attempt for start in project.starts()] == [1, 1, 1], "each frame was rendered once"


@pytest.mark.parametrize("action", ["lost", "half"])
def test_an_upload_whose_answer_is_lost_is_sent_again_and_kept_once(farm: FaultyFarm, action: str) -> None:
    before = farm.accounting()
    farm.fault("validate-job", action, 2)
    project = farm.submit("1")
    wait_for("the ledger has an answer", lambda: end_states(farm, project) == ["accepted"], 20)
    assert counted_since(farm, before) == {"accepted": 1, "again": 2}
    maker, (lease,) = farm.maker(project, 1), farm.leases(project)
    assert maker is not None
    assert (maker.lease_id, maker.attempt) == (lease["id"], lease["attempt"])


def test_a_frame_whose_grant_was_lost_on_the_way_comes_again(farm: FaultyFarm) -> None:
    before = farm.accounting()
    farm.fault("request-job", "lost")
    project = farm.submit("1")
    farm.wait_until_accepted(project, 1, within_s=25)
    assert counted_since(farm, before) == {"accepted": 1, "expiries": 1}, (
        "the server missed beats for what we never heard of"
    )
    assert end_states(farm, project) == ["accepted"]


def test_sessions_that_end_in_the_middle_of_everything_are_replaced(farm: FaultyFarm) -> None:
    """Given full slots, so that nobody asks for frames, the beats notice that the session is over."""
    before = farm.accounting()
    project = farm.submit("1-6", acts={"*": "gate"})
    wait_for("slots and look-ahead are full", lambda: farm.at_server(project)["leased"] >= 4, 20)
    frame = farm.wait_until_any_started(project).frame
    sign_ins = farm.log_text("server").count("signed in")
    farm.api("POST", "/api/sessions/expire")
    due = farm.at_server(project, frame)["expires_at"]
    wait_for("beats count again", lambda: farm.at_server(project, frame)["expires_at"] > due, 6)
    farm.api("POST", "/api/sessions/expire")
    project.open()
    farm.wait_until_accepted(project, 6)
    assert counted_since(farm, before) == {"accepted": 6}
    assert farm.log_text("server").count("signed in") >= sign_ins + 2
    assert len(project.starts()) == 6


def test_an_archive_asked_for_with_a_dead_session_is_asked_for_again(farm: FaultyFarm) -> None:
    farm.fault("download-archive", "http:503", 20)
    project = farm.submit("1-2")
    wait_for("the grant is there", lambda: farm.leases(project), 10)
    farm.api("POST", "/api/sessions/expire")
    farm.api("DELETE", "/api/faults")
    farm.wait_until_accepted(project, 2)
    wait_for("the coordinator has both answers", lambda: set(end_states(farm, project)) == {"accepted"}, 10)


def test_an_error_report_of_a_dead_session_is_sent_with_a_new_one(farm: FaultyFarm) -> None:
    farm.fault("error", "http:500", 1)
    farm.fault("error", "status:202", 1)
    project = farm.submit("1", acts={"*": "crash"})
    wait_for("the server knows", lambda: farm.at_server(project, 1)["state"] == "failed", 15)
    assert "SIGSEGV" in farm.error_log(project, 1)
    assert len(project.starts()) == 2, "the server learned it at once and did not grant the frame again"


def test_a_disabled_session_asks_no_more_finishes_its_uploads_and_is_logged_out(farm: FaultyFarm) -> None:
    project = farm.submit("1-20", acts={"*": "gate"})
    wait_for("slots and look-ahead are full", lambda: farm.at_server(project)["leased"] >= 4, 20)
    log_outs = farm.log_text("server").count("logged out")
    farm.fault("request-job", "status:203")
    project.open(farm.wait_until_any_started(project).frame)
    wait_for("the session is disabled", lambda: farm.status()["sessions"][0]["state"] == "disabled", 15)
    assert "disabled" in farm.run("status").stdout
    assert "CRITICAL" in farm.log_text("coordinator")
    granted, shown = farm.accounting()["grants"], farm.at_server(project)
    had = shown["leased"] + shown["accepted"]
    project.open()
    wait_for("what it had is uploaded", lambda: farm.at_server(project)["accepted"] == had, 20)
    wait_for("it is logged out", lambda: farm.log_text("server").count("logged out") == log_outs + 1, 10)
    assert farm.accounting()["grants"] == granted, "it asked for nothing more"
    assert farm.status()["sessions"][0]["state"] == "disabled"
    assert farm.stop("coordinator") == 0


# Renderers fail


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("crash", "renderer died of SIGSEGV"),
        ("no_output", "left no picture"),
        ("echo 'Malloc returns null'; exit 1", "memory ran out"),
    ],
)
def test_a_frame_that_fails_everywhere_is_reported_with_its_log_and_blames_no_pc(
    farm: FaultyFarm, act: str, reason: str
) -> None:
    project = farm.submit("1-2", acts={"1:*": act})
    wait_for("the server knows", lambda: farm.at_server(project, 1)["state"] == "failed", 20)
    log = farm.error_log(project, 1)
    assert reason in log.splitlines()[0]
    assert "Blender 3.4.1 (scripted)" in log
    assert {start.pc for start in project.starts(1)} == set(TWO_PCS), "both PCs tried"
    assert len(project.starts(1)) == 2
    farm.wait_until_accepted(project, 1)
    assert [node["strikes"] for node in farm.status()["nodes"]] == [[], []]


@pytest.mark.parametrize(
    ("act", "trouble"),
    [
        ("missing_library", "missing libraries"),
        ("echo 'Error: No space left on device'; exit 1", "disk full"),
    ],
)
def test_trouble_of_its_own_pauses_a_pc_and_costs_no_frame_anything(farm: FaultyFarm, act: str, trouble: str) -> None:
    before = farm.accounting()
    project = farm.submit("1-8", seconds=0.3, acts={"*:pc-01": act})
    wait_for("the status tells it", lambda: trouble in farm.node("pc-01")["trouble"], 10)
    assert "pc-01 takes nothing" in farm.run("status").stdout
    farm.wait_until_accepted(project, 8)
    assert counted_since(farm, before) == {"accepted": 8}
    assert {lease["failures"] for lease in farm.leases(project)} == {0}
    assert [node["strikes"] for node in farm.status()["nodes"]] == [[], []]
    assert len([start for start in project.starts() if start.pc == "pc-01"]) <= 3, "it was left in peace"


@pytest.mark.timeout(180)
def test_a_frame_that_is_the_trouble_itself_is_found_out_and_the_others_are_rendered(farm: FaultyFarm) -> None:
    """Given a frame that fills every PC's disk."""
    project = farm.submit("1-12", seconds=0.3, acts={"1:*": "echo 'Error: No space left on device'; exit 1"})
    farm.wait_until_accepted(project, 11, within_s=60)
    wait_for("the server knows", lambda: farm.at_server(project, 1)["state"] == "failed", 90)
    assert "the disk filled up" in farm.error_log(project, 1).splitlines()[0]


def test_a_pc_that_fails_where_the_other_succeeds_is_quarantined_until_it_is_released(farm: FaultyFarm) -> None:
    before = farm.accounting()
    project = farm.submit("1-8", seconds=0.2, acts={"*:pc-01": "crash"})
    wait_for("pc-01 is quarantined", lambda: farm.status()["quarantined"] == ["pc-01"], 20)
    assert "pc-01 is quarantined" in farm.run("status").stdout
    farm.wait_until_accepted(project, 8)
    assert counted_since(farm, before) == {"accepted": 8}, "no frame was reported as failed"
    tried = [start.frame for start in project.starts() if start.pc == "pc-01"]
    assert len(tried) == len(set(tried)), "no frame was tried there again"

    more = farm.submit("1-4")
    farm.wait_until_accepted(more, 4)
    assert {start.pc for start in more.starts()} == {"pc-02"}
    assert farm.run("node", "release", "pc-01").returncode == 0
    last = farm.submit("1-8", seconds=0.3)
    farm.wait_until_accepted(last, 8)
    assert {start.pc for start in last.starts()} == set(TWO_PCS)


@pytest.mark.parametrize("act", ["black", "wrong_size"])
def test_a_broken_picture_never_reaches_the_server_and_its_pc_is_quarantined(farm: FaultyFarm, act: str) -> None:
    before = farm.accounting()
    # Both PCs begin well, so that the job's pictures are known; then pc-01 goes wrong.
    project = farm.submit("1-16", seconds=0.2, acts={"[1-4]:*": ":", "*:pc-01": act})
    farm.wait_until_accepted(project, 16, within_s=30)
    assert farm.status()["quarantined"] == ["pc-01"]
    assert counted_since(farm, before) == {"accepted": 16}, "the server saw no broken frame"
    assert {farm.maker(project, frame).pc for frame in range(5, 17)} == {"pc-02"}  # type: ignore[union-attr]


def test_a_black_frame_that_both_pcs_make_is_the_scenes_own(farm: FaultyFarm) -> None:
    before = farm.accounting()
    project = farm.submit("1-12", seconds=0.1, acts={"4:*": "black", "8:*": "black"})
    farm.wait_until_accepted(project, 12)
    assert counted_since(farm, before) == {"accepted": 12}, "the server refused nothing and heard of no failure"
    for frame in (4, 8):
        assert {start.pc for start in project.starts(frame)} == set(TWO_PCS)
        assert len(project.starts(frame)) == 2
    assert len(project.starts()) == 14
    assert [node["strikes"] for node in farm.status()["nodes"]] == [[], []]
    assert [row["failures"] for row in farm.leases(project)] == [0] * 12


def test_a_film_that_ends_in_black_is_whole_on_one_pc_and_its_pc_is_asked_twice_about_the_first_black_frame_alone(
    farm: FaultyFarm,
) -> None:
    assert farm.stop("pc-02") == 0
    wait_for("pc-02 is gone", lambda: not farm.node("pc-02"), 30)
    before = farm.accounting()
    project = farm.submit("1-8", seconds=0.1, acts={"[4-8]:*": "black"})
    farm.wait_until_accepted(project, 8)
    assert counted_since(farm, before) == {"accepted": 8}
    assert len({start.attempt for start in project.starts(4)}) == 2
    assert farm.node("pc-01")["strikes"] == []
    assert [row["failures"] for row in farm.leases(project)] == [0] * 8
    # What was rendered before the first black frame was believed went as it was, or was under way again by then.
    assert len(project.starts()) <= 10


def test_a_held_back_picture_outlives_the_coordinator(farm: FaultyFarm) -> None:
    project = farm.submit("1-2", acts={"2:*": 'gate; rm "$stage/open.2"; black'})
    first = farm.wait_until_started(project, 2)
    farm.wait_until_accepted(project, 1)  # by the other PC, whichever frame was begun first
    [other] = set(TWO_PCS) - {first.pc}
    assert farm.stop(other) == 0
    wait_for(f"{other} is gone", lambda: not farm.node(other), 30)
    project.open(2)
    wait_for("it is held back", lambda: farm.leases(project, 2)[0]["held_back"], 10)
    # An order that the coordinator dies over is found again much later.
    wait_for("the second render waits", lambda: len(project.starts(2)) == 2, 10)
    farm.kill("coordinator")
    kept = json.loads(farm.leases(project, 2)[0]["held_back"])["delivery"]["picture"]
    assert (farm.folder / "coordinator" / "spool" / kept).is_file()
    farm.start_coordinator()
    assert (farm.folder / "coordinator" / "spool" / kept).is_file()
    project.open(2)
    farm.wait_until_accepted(project, 2)
    assert [start.pc for start in project.starts(2)] == [first.pc] * 2
    assert not (farm.folder / "coordinator" / "spool" / kept).exists()


def test_a_render_that_takes_too_long_is_ended_and_tried_elsewhere(farm: FaultyFarm) -> None:
    assert farm.stop("coordinator") == 0
    farm.start_coordinator(SHEEPFOLD_RENDER_LIMIT_S="1")
    farm.wait_until_here(*TWO_PCS)
    project = farm.submit("1-2", acts={"1:*": "hang", "2:pc-01": "hang"})
    wait_for("the server knows", lambda: farm.at_server(project, 1)["state"] == "failed", 25)
    assert "stopped after the limit of 1 seconds" in farm.error_log(project, 1)
    assert {start.pc for start in project.starts(1)} == set(TWO_PCS)
    farm.wait_until_accepted(project, 1)
    assert not any(farm.renderers_of(pc) for pc in TWO_PCS)
    assert farm.stop("coordinator") == 0


@pytest.fixture
def pc_with_small_disk(farm: FaultyFarm, request: pytest.FixtureRequest) -> Iterator[str]:
    """A PC that has 4 MB for a part of its work folder; its name."""
    pc = f"small-{request.param or 'work'}"
    folder = farm.folder / pc / request.param
    folder.mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    farm.start_worker(pc)
    try:
        yield pc
    finally:
        try:
            farm.stop(pc)
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    ("pc_with_small_disk", "act"),
    [pytest.param("", ":", id="extracting"), pytest.param("scratch", "fill", id="rendering")],
    indirect=["pc_with_small_disk"],
)
def test_a_pc_whose_disk_is_full_says_so_and_another_one_renders_the_frame(
    farm: FaultyFarm, pc_with_small_disk: str, act: str
) -> None:
    farm.wait_until_here(pc_with_small_disk)
    before = farm.accounting()
    project = farm.submit("1-8", seconds=0.3, acts={f"*:{pc_with_small_disk}": act})
    farm.wait_until_accepted(project, 8)
    assert counted_since(farm, before) == {"accepted": 8}
    assert "disk full" in farm.log_text(pc_with_small_disk)
    makers = [farm.maker(project, frame) for frame in range(1, 9)]
    assert pc_with_small_disk not in {maker.pc for maker in makers if maker}
