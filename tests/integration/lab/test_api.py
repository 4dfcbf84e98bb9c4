"""Projects, the page, and hostile requests at the lab server."""

from __future__ import annotations

import io
import json
import logging
import zipfile

import pytest
import requests

from tests.support.servers.running_lab import LOGIN, PASSWORD, Client, RunningLab, running_lab


def test_only_the_owner_may_submit_and_change(lab: RunningLab, tmp_path):
    project = lab.project()
    requests.put(f"{lab.url}/api/accounts/ben", json={"password": "baa"}, auth=(LOGIN, PASSWORD), timeout=10)
    for auth in (None, (LOGIN, "wrong"), ("ben", "baa")):
        for path in ("/api/projects", f"/api/projects/{project.id}/cancel", "/api/mode", "/api/faults"):
            assert requests.post(lab.url + path, auth=auth, timeout=10).status_code == 401
    other_site = {"sec-fetch-site": "cross-site"}
    path = f"{lab.url}/api/projects/{project.id}/cancel"
    assert requests.post(path, auth=(LOGIN, PASSWORD), headers=other_site, timeout=10).status_code == 403
    assert lab.owner.project(project.id)["state"] == "active"


def test_looking_needs_the_password_where_the_server_is_not_open(tmp_path):
    with running_lab(tmp_path, server_open=False) as lab:
        lab.project()
        for path in ("/", "/api/overview", "/api/projects", "/api/projects/100", "/api/accounting"):
            assert requests.get(lab.url + path, timeout=10).status_code == 401
            assert requests.get(lab.url + path, auth=(LOGIN, PASSWORD), timeout=10).status_code == 200
        assert requests.get(f"{lab.url}/healthz", timeout=10).status_code == 200
        assert lab.client().request_job() == 0


@pytest.mark.parametrize(
    ("changed", "status", "detail"),
    [
        ({"frames": "9-1"}, 400, "1 comes before 9"),
        ({"name": ""}, 400, "name is"),
        ({"name": "n" * 101}, 400, "this one has 101"),
        ({"name": "a\u2028b"}, 400, "holds the character U+2028 (line separator)"),
        ({"scene": "a\tb.blend"}, 400, "'a\\tb.blend' holds the character U+0009"),
        ({"scene": "a\\b.blend"}, 400, "holds a backslash"),
        ({"scene": "a.txt"}, 400, "'a.txt' does not end with .blend"),
        ({"scene": "../a.blend"}, 400, "path of a .blend"),
        ({"scene": "other.blend"}, 400, "does not hold the scene"),
        ({"width": "wide"}, 400, "width is"),
        ({"compute": "abacus"}, 400, "compute is"),
        ({"name": "x" * 70_000}, 413, "too long"),
    ],
)
def test_a_bad_project_is_refused_with_one_clear_line(lab: RunningLab, changed, status, detail):
    with zipfile.ZipFile(body := io.BytesIO(), "w") as archive:
        archive.writestr("a.blend", "x")
    fields = {"name": "shot", "frames": "1", "scene": "a.blend", **changed}
    answer = requests.post(
        f"{lab.url}/api/projects", data=fields, files={"archive": ("a.zip", body.getvalue())}, auth=(LOGIN, PASSWORD),
        timeout=10,
    )  # fmt: skip
    assert answer.status_code == status
    assert detail in answer.json()["detail"]
    assert lab.owner.projects() == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"mode": {}}', b'{"mode": "party"}', b"\xff\xfe" * 50, b"[" * 99999]
)
def test_a_bad_json_body_is_one_clear_line(lab: RunningLab, body):
    answer = requests.post(f"{lab.url}/api/mode", data=body, auth=(LOGIN, PASSWORD), timeout=10)
    assert answer.status_code == 400
    assert "\n" not in answer.json()["detail"]


def test_hostile_requests_get_an_answer_and_no_stack(lab: RunningLab):
    lab.project()
    client = lab.client()
    request_job = lab.url + "/server/request_job.php?computemethod=1"
    for body in (b"<!DOCTYPE a [<!ENTITY b 'c'>]><cache>&b;</cache>", b"<cache", b"\0" * 1000, b"x" * 5_000_000):
        assert b'<jobrequest status="204"' in client.http.post(request_job, data=body, timeout=10).content
    for query in ("", "?computemethod=9", "?computemethod="):
        answer = client.http.post(lab.url + "/server/request_job.php" + query, timeout=10)
        assert b'<jobrequest status="204"' in answer.content
    upload = lab.url + "/server/send_frame.php"
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=" + "x" * 999,
        "multipart/form-data; boundary=x",
    ):
        answer = client.http.post(upload, data=b"--x\r\nnonsense", headers={"content-type": kind}, timeout=10)
        assert b'status="303"' in answer.content
    assert client.http.get(lab.url + "/account.php?mode=other", timeout=10).status_code == 404
    assert client.request_job() == 0


def test_the_page_shows_itself_without_loading_anything_from_elsewhere(lab: RunningLab, png):
    page = requests.get(lab.url, timeout=10)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<h1>sheepfold</h1>" in page.text
    assert "https://" not in page.text
    lab.project("1-2")
    client = lab.client()
    job, frame = client.next_frame()
    client.send(job, frame, png)
    client.next_frame()
    overview = requests.get(f"{lab.url}/api/overview", timeout=10).json()
    assert [row["frame"] for row in overview["rendering"]] == ["0002"]
    assert (overview["projects"][0]["accepted"], overview["sessions"][0]["cpu"]) == (1, "Test CPU")
    thumb = requests.get(f"{lab.url}/projects/{job}/frames/{frame}?thumb=1", timeout=10)
    assert thumb.headers["content-type"] == "image/jpeg"
    pictures = requests.get(f"{lab.url}/api/projects/{job}/frames.zip", timeout=10).content
    assert zipfile.ZipFile(io.BytesIO(pictures)).read("0001.png") == png


def test_the_password_shows_up_in_nothing_the_server_says_or_writes(lab: RunningLab, tmp_path, caplog):
    caplog.set_level("DEBUG")
    lab.client()
    Client(lab.url).sign_in(password=PASSWORD + "!")
    assert logging.getLogger("lab.server.protocol.session_routes").isEnabledFor(logging.DEBUG)
    logged = [
        record.getMessage() for record in caplog.records if not record.name.startswith("urllib3")
    ]  # that is the client
    assert logged
    assert "counting" not in json.dumps(requests.get(f"{lab.url}/api/overview", timeout=10).json()) + "".join(logged)
    for path in (tmp_path / "server").rglob("*"):
        assert not path.is_file() or b"counting sheep" not in path.read_bytes()
