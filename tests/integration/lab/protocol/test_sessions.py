"""The lab server opens, refuses and ends sessions, each for its real reason."""

from __future__ import annotations

import pytest
import requests

from tests.support.servers.running_lab import LOGIN, PASSWORD, Client, RunningLab


def test_signing_in_tells_where_everything_is(lab: RunningLab):
    for path in ("/server/config.php", "/"):
        client = Client(lab.url)
        assert client.sign_in(path) == 0
        assert set(client.paths) == {
            "validate-job", "request-job", "download-archive", "download-binary", "download-chunk", "error",
            "keepmealive", "logout", "speedtest-answer", "sheepfold-project",
        }  # fmt: skip
        assert client.answer.attrib["publickey"]
        [beat] = [request for request in client.answer if request.attrib["type"] == "keepmealive"]
        assert beat.attrib["max-period"] == "100"
        assert len(client.http.cookies) == 1


def test_signing_in_works_as_post_and_ignores_what_it_does_not_know(lab: RunningLab):
    fields = {"login": LOGIN, "password": PASSWORD, "version": "9.0", "os": "mac", "bits": "64bit", "cpu_family": "1"}
    fields |= {"cpu_model": "1", "cpu_model_name": "M", "cpu_cores": "4", "ram": "1", "hostname": "pc", "ui": "text"}
    answer = requests.post(f"{lab.url}/server/config.php", data=fields, timeout=10)
    assert b'status="0"' in answer.content


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"version": None}, 100),
        ({"version": ""}, 100),
        ({"version": "3.3.1699"}, 101),
        ({"version": "3.3.999"}, 101),
        ({"version": "nonsense"}, 101),
        ({"version": "3.10"}, 0),
        ({"password": "wrong"}, 102),
        ({"login": "nobody"}, 102),
        ({"ram": None}, 104),
        ({"cpu_cores": "many"}, 104),
        ({"password": None}, 104),
    ],
)
def test_a_sign_in_is_refused_for_its_reason(lab: RunningLab, changed, status):
    assert Client(lab.url).sign_in(**changed) == status


def test_the_right_password_opens_a_session_whatever_became_of_the_cookie_in_hand(lab: RunningLab):
    lab.project()
    client = lab.client()
    lab.now += 86_401
    assert client.request_job() == 202
    assert client.sign_in(password="wrong") == 102
    assert client.sign_in() == 0
    assert client.request_job() == 0
    client.http.cookies.set("sheepfold_session", "of another server")
    assert client.sign_in() == 0


def test_an_account_without_rendering_right_is_201(lab: RunningLab):
    answer = requests.put(
        f"{lab.url}/api/accounts/ben", json={"password": "baa", "may_render": False}, auth=(LOGIN, PASSWORD), timeout=10
    )
    assert answer.status_code == 200
    assert lab.client("ben", "baa").request_job() == 201


def test_a_dead_session_is_202_and_304_and_gets_no_archive(lab: RunningLab, png):
    lab.project()
    client = lab.client()
    job, frame = client.next_frame()
    lab.now += 86_401
    assert client.request_job() == 202
    assert client.send(job, frame, png) == 304
    assert client.beat(job, frame) == 202
    assert client.report_error(job, frame) == 202
    assert client.download(type="job", job=job, revision="0").status_code == 404
    client.http.cookies.clear()
    assert client.request_job() == 202
    client.http.cookies.set("sheepfold_session", "made up")
    assert client.request_job() == 202
    assert client.send(job, frame, png) == 304


def test_three_broken_frames_disable_the_session_but_not_the_account(lab: RunningLab):
    lab.project("1-9")
    client = lab.client()
    for _ in range(3):
        assert client.send(*client.next_frame(), b"not a picture at all") == 302
    assert client.request_job() == 203
    assert client.send("100", "0001", b"") == 304
    assert lab.client().request_job() == 0


def test_maintenance_is_206_and_overload_207(lab: RunningLab):
    lab.project()
    client = lab.client()
    lab.post("/api/mode", mode="maintenance")
    assert client.request_job() == 206
    lab.post("/api/mode", mode="overloaded")
    assert client.request_job() == 207
    lab.post("/api/mode", mode="normal")
    assert client.request_job() == 0


def test_a_new_session_of_the_account_carries_on(lab: RunningLab, png):
    lab.project("1")
    job, frame = lab.client().next_frame()
    again = lab.client()
    assert again.beat(job, frame) == 0
    assert again.send(job, frame, png) == 0


def test_logging_out_frees_the_frames_and_ends_the_session(lab: RunningLab):
    lab.project("1")
    leaving, other = lab.client(), lab.client()
    cookie = leaving.http.cookies.get("sheepfold_session")
    leaving.next_frame()
    assert other.request_job() == 200
    assert leaving.log_out() == 200
    assert len(leaving.http.cookies) == 0
    assert other.request_job() == 0
    leaving.http.cookies.set("sheepfold_session", cookie)
    assert leaving.request_job() == 202
