"""What only clients of ours ask a lab server: to stop a project, and when to ask again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lab.server.protocol.session_routes import LONGEST_WAIT_S, SHORTEST_WAIT_S, wait_for_jobs_s
from tests.support.servers.running_lab import Client, RunningLab, running_lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RunningLab]:
    with running_lab(tmp_path) as lab:
        yield lab


def step(client: Client, job: str, step: str) -> dict[str, str]:
    url = client.url + client.paths["sheepfold-project"]
    client._read(client.http.post(url, params={"job": job, "step": step}, timeout=10), "project")
    return dict(client.answer.attrib)


def states(lab: RunningLab, project: int) -> dict[str, str]:
    return {frame["frame"]: frame["state"] for frame in lab.owner.project(project)["list"]}


@pytest.mark.parametrize("by", ["number", "name"])
def test_a_project_is_cancelled_with_its_leases_and_resumed(lab: RunningLab, by: str) -> None:
    project, client = lab.project(), lab.client()
    job = str(project.id) if by == "number" else "shot"
    granted = client.next_frame()
    assert step(client, job, "cancel") == {"status": "0", "job": str(project.id), "name": "shot"}
    assert lab.owner.project(project.id)["state"] == "cancelled"
    assert set(states(lab, project.id).values()) == {"waiting"}
    assert client.request_job() == 200
    assert client.beat(*granted) == 400
    assert client.report_error(*granted) == 0
    assert lab.owner.project(project.id)["list"][0]["errors"] == 0

    assert step(client, job, "resume")["status"] == "0"
    assert client.next_frame() == granted


def test_a_name_means_the_newest_project_that_still_wants_frames(lab: RunningLab) -> None:
    old, new, over = lab.project(), lab.project(), lab.project()
    lab.post(f"/api/projects/{over.id}/cancel")
    client = lab.client()
    assert step(client, "shot", "cancel")["job"] == str(new.id)
    assert step(client, "shot", "cancel")["job"] == str(old.id)
    answer = step(client, "shot", "cancel")
    assert (answer["status"], answer["job"]) == ("409", str(over.id))


def test_what_cannot_be_done_is_said_and_changes_nothing(lab: RunningLab) -> None:
    project, client = lab.project(), lab.client()
    assert step(client, "another", "cancel") == {"status": "404", "job": "", "name": ""}
    assert step(client, str(project.id), "resume") == {"status": "409", "job": str(project.id), "name": "shot"}
    url = client.url + client.paths["sheepfold-project"]
    for fields in ({"job": "101"}, {"job": "101", "step": "pause"}, {"step": "cancel"}):
        assert client.http.post(url, params=fields, timeout=10).status_code == 400
    assert client.http.get(url, params={"job": str(project.id), "step": "cancel"}, timeout=10).status_code == 405
    assert lab.owner.project(project.id)["state"] == "active"


def test_only_accounts_that_may_manage_projects_are_offered_it_and_may(lab: RunningLab) -> None:
    project, owner = lab.project(), lab.client()
    requests.put(
        f"{lab.url}/api/accounts/guest", json={"password": "guest-word"}, auth=("anna", "counting sheep"), timeout=10
    ).raise_for_status()
    guest = lab.client(login="guest", password="guest-word")
    assert "sheepfold-project" not in guest.paths
    guest.paths = owner.paths
    assert step(guest, str(project.id), "cancel")["status"] == "403"
    stranger = Client(lab.url)
    stranger.paths = owner.paths
    assert step(stranger, str(project.id), "cancel")["status"] == "403"
    assert lab.owner.project(project.id)["state"] == "active"


def test_a_client_without_a_job_is_told_when_to_ask_again(lab: RunningLab) -> None:
    client = lab.client()
    assert client.request_job() == 200
    assert client.answer.attrib["sheepfold-wait-s"] == str(SHORTEST_WAIT_S)
    lab.project()
    assert client.request_job() == 0
    assert "sheepfold-wait-s" not in client.answer.attrib


@pytest.mark.parametrize(
    ("sessions", "wait_s"), [(0, SHORTEST_WAIT_S), (50, 2), (51, 3), (1000, 40), (10**6, LONGEST_WAIT_S)]
)
def test_many_sessions_share_the_questions(sessions: int, wait_s: int) -> None:
    assert wait_for_jobs_s(sessions) == wait_s


def test_sessions_nobody_has_heard_of_for_long_take_no_share(lab: RunningLab) -> None:
    for _ in range(60):
        lab.client()
    client = lab.client()
    client.request_job()
    assert client.answer.attrib["sheepfold-wait-s"] == "3"
    lab.now += 200
    client.request_job()
    assert client.answer.attrib["sheepfold-wait-s"] == "2"
