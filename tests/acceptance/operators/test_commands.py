"""The installed command as an operator meets it: settings, exit codes, status, stopping."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.support.farm.running_farm import RunningFarm, free_port, running_farm, wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    ("command", "environment", "line"),
    [
        ("coordinator", {"SHEEPFOLD_SERVER_URL": ""}, "SHEEPFOLD_SERVER_URL: is required"),
        ("coordinator", {"SHEEPFOLD_SERVER_URL": "render.example.org"}, "SHEEPFOLD_SERVER_URL: must be an address"),
        ("coordinator", {"SHEEPFOLD_LOGIN": ""}, "SHEEPFOLD_LOGIN: is required"),
        ("coordinator", {"SHEEPFOLD_PASSWORD": ""}, "SHEEPFOLD_PASSWORD: set it"),
        ("coordinator", {"SHEEPFOLD_PASSWORD": "", "SHEEPFOLD_PASSWORD_FILE": "none"}, "SHEEPFOLD_PASSWORD_FILE: "),
        ("coordinator", {"SHEEPFOLD_PORT": "http"}, "SHEEPFOLD_PORT: "),
        ("coordinator", {"SHEEPFOLD_PORT": "70000"}, "SHEEPFOLD_PORT: "),
        ("coordinator", {"SHEEPFOLD_SESSIONS": "many"}, "SHEEPFOLD_SESSIONS: "),
        ("coordinator", {"SHEEPFOLD_JOB_TAGS": "film: fast"}, "SHEEPFOLD_JOB_TAGS: must be JSON"),
        ("coordinator", {"SHEEPFOLD_RAM_UNIT": "mb"}, "SHEEPFOLD_RAM_UNIT: "),
        ("coordinator", {"SHEEPFOLD_HEARTBEAT_S": "0"}, "SHEEPFOLD_HEARTBEAT_S: "),
        ("coordinator", {"SHEEPFOLD_REDIS_URL": "http://x"}, "SHEEPFOLD_REDIS_URL: "),
        ("coordinator", {"SHEEPFOLD_FARM_TOKEN": "short"}, "SHEEPFOLD_FARM_TOKEN: "),
        ("coordinator", {"SHEEPFOLD_STATE_DIR": "/proc/nothing"}, "SHEEPFOLD_STATE_DIR: "),
        ("worker", {"SHEEPFOLD_COORDINATOR_URL": ""}, "SHEEPFOLD_COORDINATOR_URL: "),
        ("worker", {"SHEEPFOLD_FARM_TOKEN": ""}, "SHEEPFOLD_FARM_TOKEN: "),
        ("worker", {"SHEEPFOLD_SLOTS": "0"}, "SHEEPFOLD_SLOTS: "),
        ("worker", {"SHEEPFOLD_COMPUTE": "tpu"}, "SHEEPFOLD_COMPUTE: "),
        ("server", {"SHEEPFOLD_SERVER_PORT": "x"}, "SHEEPFOLD_SERVER_PORT: "),
    ],
)
def test_a_wrong_setting_is_one_clear_line_and_exit_code_2(
    tmp_path: Path, command: str, environment: dict[str, str], line: str
) -> None:
    farm = RunningFarm(tmp_path)
    ended = farm.run(command, **environment)
    assert ended.returncode == 2, ended.stderr
    assert any(line in said for said in ended.stderr.splitlines()), ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "Traceback" not in ended.stderr


def test_settings_come_from_the_file_and_the_environment_wins(tmp_path: Path) -> None:
    farm = RunningFarm(tmp_path)
    (tmp_path / "sheepfold.toml").write_text('port = "from the file"\nheartbeat_s = "from the file"\n')
    ended = farm.run("coordinator")
    assert "SHEEPFOLD_HEARTBEAT_S: " in ended.stderr
    assert "SHEEPFOLD_PORT" not in ended.stderr, "the environment's port is a good one"


def test_a_settings_file_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "sheepfold.toml").write_text("port = = 3")
    ended = RunningFarm(tmp_path).run("coordinator")
    assert (ended.returncode, ended.stderr.startswith("sheepfold.toml cannot be read")) == (2, True), ended.stderr


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with running_farm(tmp_path) as farm:
        farm.start_server()
        ended = farm.run("coordinator", SHEEPFOLD_PORT=farm.server_url.rpartition(":")[2])
        assert ended.returncode == 2, ended.stderr
        assert "SHEEPFOLD_PORT" in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("server", "coordinator", "line"),
    [
        ({}, {"SHEEPFOLD_PASSWORD": "wrong password"}, "does not accept login and password (status 102)"),
        ({"SHEEPFOLD_MIN_VERSION": "4.0"}, {}, "too old (status 101)"),
    ],
)
def test_a_refusal_that_waiting_cannot_mend_ends_it_with_one_clear_line(
    tmp_path: Path, server: dict[str, str], coordinator: dict[str, str], line: str
) -> None:
    with running_farm(tmp_path, environment=server) as farm:
        farm.start_server()
        ended = farm.run("coordinator", **coordinator)
        assert ended.returncode == 3, ended.stderr
        assert line in ended.stderr.splitlines()[-1]
        assert "wrong password" not in ended.stderr


@pytest.mark.parametrize(
    ("exchange", "status", "line"),
    [
        ("config", 100, "no client version was given (status 100)"),
        ("config", 104, "a parameter of the sign-in is missing (status 104)"),
        ("request-job", 201, "no right to render (status 201)"),
    ],
)
def test_a_final_no_of_the_server_ends_it_too(tmp_path: Path, exchange: str, status: int, line: str) -> None:
    with running_farm(tmp_path) as farm:
        farm.start_server("--faults")
        farm.server_fails(exchange, f"status:{status}")
        farm.start("coordinator", "coordinator")
        farm.start_worker("pc-01")
        assert farm.processes["coordinator"].wait(30) == 3, farm.log_of("coordinator").read_text()
        assert line in farm.log_of("coordinator").read_text().splitlines()[-1]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_coordinator_whose_server_is_down_waits_and_still_stops_at_once(tmp_path: Path, stop: int) -> None:
    with running_farm(tmp_path) as farm:
        farm.start_coordinator()
        wait_for("it says so", lambda: "next try in" in farm.log_of("coordinator").read_text(), 15)
        assert farm.stop("coordinator", stop) == 0


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_server_and_worker_stop_when_asked(tmp_path: Path, stop: int) -> None:
    with running_farm(tmp_path) as farm:
        farm.start_server()
        farm.start_coordinator()
        farm.start_worker("pc-01")
        wait_for("the PC is there", lambda: farm.status()["nodes"], 20)
        for name in ("pc-01", "server"):
            assert farm.stop(name, stop) == 0, farm.log_of(name).read_text()


def test_a_worker_without_a_coordinator_waits_and_one_with_a_wrong_token_ends(tmp_path: Path) -> None:
    with running_farm(tmp_path) as farm:
        farm.start_worker("early")
        wait_for("it says so", lambda: farm.log_of("early").read_text(), 10)
        farm.start_server()
        farm.start_coordinator()
        wait_for("it joins when there is one", lambda: farm.status()["nodes"], 20)
        stranger = farm.run("worker", SHEEPFOLD_FARM_TOKEN="not-the-token", SHEEPFOLD_WORK_DIR=str(tmp_path / "x"))
        assert stranger.returncode == 3, stranger.stderr
        assert "SHEEPFOLD_FARM_TOKEN" in stranger.stderr.splitlines()[-1]


def test_two_pcs_of_one_name_are_told_apart_in_the_status(tmp_path: Path) -> None:
    with running_farm(tmp_path) as farm:
        farm.start_server()
        farm.start_coordinator()
        for folder in ("a", "b"):
            farm.start(folder, "worker", SHEEPFOLD_NODE_NAME="pc", SHEEPFOLD_WORK_DIR=str(tmp_path / folder))
        wait_for("both are there", lambda: len(farm.status()["nodes"]) == 2, 20)
        as_json = json.loads(farm.run("status", "--json").stdout)
        assert [node["name"] for node in as_json["nodes"]] == ["pc", "pc-02"]
        assert [node["slots"] for node in as_json["nodes"]] == [1, 1]
        assert as_json["sessions"][0]["state"] == "signed in"
        page = farm.run("status").stdout
        assert "pc-02" in page
        assert "idle" in page


def test_status_without_a_coordinator_says_what_to_look_at(tmp_path: Path) -> None:
    farm = RunningFarm(tmp_path)
    farm.coordinator_url = f"http://127.0.0.1:{free_port()}"
    ended = farm.run("status", SHEEPFOLD_VIEWER_PASSWORD="a password of the viewer")
    assert ended.returncode == 1
    assert "SHEEPFOLD_COORDINATOR_URL" in ended.stderr


@pytest.mark.parametrize(
    ("target", "code", "line"),
    [("no-such-folder/copy.sqlite", 2, "there is no folder"), (".", 2, "is a folder"), ("copy.sqlite", 0, "")],
)
def test_a_backup_that_cannot_be_written_is_one_line(tmp_path: Path, target: str, code: int, line: str) -> None:
    farm = RunningFarm(tmp_path)
    (tmp_path / "coordinator").mkdir()
    sqlite3.connect(tmp_path / "coordinator" / "ledger.sqlite").close()
    ended = farm.run("ledger", "backup", target)
    assert ended.returncode == code, ended.stderr
    assert len(ended.stderr.splitlines()) == (1 if code else 0), ended.stderr
    assert line in ended.stderr


def test_a_setting_that_none_is_named_like_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    ended = RunningFarm(tmp_path).run("status", SHEEPFOLD_COORDINATOR_ADRESS="http://127.0.0.1:1")
    first = ended.stderr.splitlines()[0]
    assert first.startswith("warning: SHEEPFOLD_COORDINATOR_ADRESS is no setting and does nothing"), ended.stderr
