"""How long the lab server leaves frames to clients: heartbeats with names, without them, and none at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.support.servers.running_lab import Client, RunningLab, picture, running_lab

#: What clients since 2019-09 do, seconds.
BEAT_S = 900
TICK_S = 60


@pytest.fixture
def lab(tmp_path: Path):
    """With the times a server has unless it is told otherwise."""
    with running_lab(tmp_path) as lab:
        yield lab


def beat_without_names(client: Client, **fields: str) -> int:
    answer = client.http.get(client.url + client.paths["keepmealive"], params=fields, timeout=10)
    return client._read(answer, "keepmealive")


def test_a_client_that_beats_after_15_minutes_keeps_its_frame_for_hours(lab: RunningLab, tmp_path):
    lab.project("1")
    client, other = lab.client(), lab.client()
    job, frame = client.next_frame()
    for _ in range(20):
        lab.now += BEAT_S + TICK_S
        assert other.request_job() == 200
        assert beat_without_names(client, paused="false") == 0
    assert client.send(job, frame, picture(tmp_path)) == 0
    assert lab.owner.project(int(job))["state"] == "done"


def test_a_heartbeat_without_names_is_for_all_leases_of_its_session_and_no_other(lab: RunningLab):
    lab.project("1-3")
    client, other = lab.client(), lab.client()
    mine = [client.next_frame(), client.next_frame()]
    theirs = other.next_frame()
    lab.now += 1400
    assert beat_without_names(client) == 0
    lab.now += 200
    third = lab.client()
    assert third.next_frame() == theirs
    assert third.request_job() == 200
    assert [client.beat(*frame) for frame in mine] == [0, 0]
    assert other.beat(*theirs) == 0  # the same account: its beat takes the lease over


def test_a_session_that_holds_nothing_may_beat(lab: RunningLab):
    client = lab.client()
    assert beat_without_names(client) == 0
    assert beat_without_names(client, job="100") == 0
    assert client.request_job() == 200


def test_any_request_of_a_session_whose_client_passes_over_max_period_is_a_sign_of_life(lab: RunningLab, tmp_path):
    """A client's timer begins anew with each request: an upload after 14 minutes delays the next heartbeat."""
    lab.project("1-2")
    client, other = lab.client(), lab.client()
    assert client.sign_in(version="6.20294.0") == 0
    first, second = client.next_frame(), client.next_frame()
    lab.now += 14 * 60
    assert client.send(*first, picture(tmp_path)) == 0
    lab.now += BEAT_S + TICK_S  # half an hour after the frame was granted, and not once was it named
    assert other.request_job() == 200
    assert client.beat(*second) == 0


def test_a_client_that_keeps_to_max_period_and_does_not_beat_loses_its_frame_in_time(lab: RunningLab):
    lab.project("1-2")
    client, other = lab.client(), lab.client()
    lost, held = client.next_frame(), client.next_frame()
    lab.now += 1400
    assert client.beat(*held) == 0
    lab.now += 200
    assert other.next_frame() == lost, "its answer got lost on the way, and it was never named"


def test_an_offer_whose_answer_was_lost_comes_back_though_its_session_goes_on(lab: RunningLab, tmp_path):
    lab.project("1-2")
    client = lab.client()
    lost, held = client.next_frame(), client.next_frame()
    for _ in range(4):
        lab.now += 800
        assert client.beat(*held) == 0
    assert client.request_job() == 0
    assert (client.job["id"], client.job["frame"]) == lost


def test_a_session_that_signs_in_again_keeps_what_it_holds(lab: RunningLab):
    lab.project("1")
    client, other = lab.client(), lab.client()
    client.next_frame()
    assert client.sign_in() == 0
    lab.now += 1400
    assert beat_without_names(client) == 0
    lab.now += 1400
    assert other.request_job() == 200
    assert client.log_out() == 200
    assert other.request_job() == 0


def test_another_accounts_cookie_takes_nothing_over(lab: RunningLab):
    auth = (lab.services.settings.login, lab.services.settings.secret())
    requests.put(f"{lab.url}/api/accounts/ben", json={"password": "baa"}, auth=auth, timeout=10)
    lab.project("1")
    anna = lab.client()
    anna.next_frame()
    ben = Client(lab.url)
    ben.http.cookies.update(anna.http.cookies)
    assert ben.sign_in(login="ben", password="baa") == 0
    assert ben.log_out() == 200
    assert lab.client().request_job() == 200  # it is anna's still
