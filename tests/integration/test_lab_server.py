"""The lab server as a client of the protocol meets it: every exchange, and every status for its real reason."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.servers.running_lab import LOGIN, PASSWORD, Client, RunningLab, picture, running_lab


@pytest.fixture
def lab(tmp_path: Path):
    with running_lab(tmp_path, faults=True, min_version="3.3.1700", max_period_s=100, lease_grace_s=10) as lab:
        yield lab


@pytest.fixture
def png(tmp_path: Path) -> bytes:
    return picture(tmp_path)


def test_signing_in_tells_where_everything_is(lab: RunningLab):
    for path in ("/server/config.php", "/"):
        client = Client(lab.url)
        assert client.sign_in(path) == 0
        assert set(client.paths) == {
            "validate-job", "request-job", "download-archive", "download-binary", "download-chunk", "error",
            "keepmealive", "logout", "speedtest-answer", "sheepfold-project",
        }  # fmt: skip
        assert client.answer.attrib["publickey"]
        [beat] = [one for one in client.answer if one.attrib["type"] == "keepmealive"]
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


def test_one_frame_goes_all_the_way(lab: RunningLab, png, tmp_path):
    project = lab.project("5-6", name="shöt <7>")
    client = lab.client()
    job, frame = client.next_frame()
    assert (job, frame) == (str(project.id), "0005")
    assert client.job["path"] == "scene/a.blend"
    assert client.job["extras"] == ""
    assert client.job["synchronous_upload"] == "0"
    assert client.job["name"] == "shöt <7>"
    assert client.answer.find("frames").attrib["remaining"] == "2"
    scene = client.download(type="job", job=job, revision="0").content
    assert hashlib.md5(scene).hexdigest() == client.job["archive_md5"]
    renderer = client.download(type="binary", job=job).content
    assert hashlib.md5(renderer).hexdigest() == client.answer.find("job/renderer").attrib["md5"]
    assert zipfile.ZipFile(io.BytesIO(renderer)).namelist() == ["rend.exe"]
    assert client.beat(job, frame) == 0
    assert client.send(job, frame, png, memoryused="1000", cores="4") == 0
    kept = tmp_path / "server" / "projects" / f"{job}-shöt--7" / "frames" / "0005.png"
    assert kept.read_bytes() == png
    assert requests.get(f"{lab.url}/projects/{job}/frames/0005", timeout=10).content == png
    told = lab.owner.project(project.id)["list"][0]
    assert (told["state"], told["render_s"], told["memory_kb"], told["file"]) == ("accepted", 7, 1000, "0005.png")


def test_the_default_script_is_python(lab: RunningLab):
    lab.project()
    client = lab.client()
    client.next_frame()
    script = client.answer.find("job/script").text
    compile(script, "script", "exec")
    assert "file_format = 'PNG'" in script


def test_a_test_frame_is_uploaded_before_anything_else(lab: RunningLab):
    lab.project(test_frame="1")
    client = lab.client()
    client.next_frame()
    assert client.job["synchronous_upload"] == "1"


def test_no_project_is_200_and_a_foreign_platform_205(lab: RunningLab):
    assert lab.client().request_job() == 200
    lab.project()
    assert lab.client(os="windows", bits="32bit").request_job() == 205
    assert lab.client(os="amiga").request_job() == 205


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


@pytest.mark.parametrize("missing", ["job", "frame", "rendertime"])
def test_an_upload_that_lacks_something_is_300(lab: RunningLab, png, missing):
    lab.project()
    client = lab.client()
    job, frame = client.next_frame()
    assert client.send(job, frame, png, **{missing: ""}) == 300


def test_an_upload_without_a_file_or_of_a_frame_never_granted_is_300(lab: RunningLab, png):
    lab.project()
    client = lab.client()
    job, frame = client.next_frame()
    url = lab.url + client.paths["validate-job"]
    fields = {"job": job, "frame": frame, "rendertime": "1", "revision": "0"}
    assert b'status="300"' in client.http.post(url, data=fields, timeout=10).content
    assert client.send(job, "0003", png) == 300
    assert client.send("1", frame, png) == 300
    assert client.send(job, frame.lstrip("0"), png) == 300


def test_a_black_or_misshapen_frame_is_301(lab: RunningLab, png, tmp_path):
    lab.project(width="32", height="18")
    client = lab.client()
    assert client.send(*client.next_frame(), png) == 0
    black = client.next_frame()
    assert client.send(*black, picture(tmp_path, colour=(0, 0, 0, 1))) == 301
    other = lab.client()
    job, frame = other.next_frame()
    assert other.send(job, frame, picture(tmp_path, width=16, height=9)) == 301
    assert lab.owner.error_log(int(job), frame).startswith("refused (301): 16 x 9 pixels, not ")
    assert other.send(*other.next_frame(), png) == 0


@pytest.mark.parametrize("colour", [(0, 0, 0, 1), (0.4, 0, 0, 0)])
def test_a_film_of_one_client_may_have_black_frames_and_none_of_them_counts_against_it(
    lab: RunningLab, png, tmp_path, colour
):
    """Given a server that disables a session after three broken frames, when four of five frames come black twice."""
    lab.project(frames="1-9", width="32", height="18")
    client, empty = lab.client(), picture(tmp_path, colour=colour)
    for number in range(1, 10):
        job, frame = client.next_frame()
        assert frame == f"{number:04d}"
        if number % 2:
            assert client.send(job, frame, png) == 0
            continue
        assert client.send(job, frame, empty) == 301
        assert client.next_frame() == (job, frame), "it is rendered once more"
        assert client.send(job, frame, empty) == 0
    assert client.request_job() == 200


def test_a_session_that_was_disabled_for_black_frames_is_live_again_when_one_is_believed(
    lab: RunningLab, png, tmp_path
):
    lab.project(frames="1-7", width="32", height="18")
    client, other, black = lab.client(), lab.client(), picture(tmp_path, colour=(0, 0, 0, 1))
    held = [client.next_frame() for _ in range(7)]
    for frame in held[::2]:
        assert client.send(*frame, png) == 0
    assert [client.send(*frame, black) for frame in held[1::2]] == [301, 301, 301]
    assert client.request_job() == 203
    assert other.send(*other.next_frame(), black) == 0
    assert client.request_job() == 0


def test_a_black_frame_that_was_made_sure_of_is_believed_at_once(lab: RunningLab, png, tmp_path):
    lab.project(frames="1-2", width="32", height="18")
    client = lab.client()
    assert client.send(*client.next_frame(), png) == 0
    assert client.send(*client.next_frame(), picture(tmp_path, colour=(0, 0, 0, 1)), confirmed="1") == 0


@pytest.mark.parametrize("what", [b"", b"<html>no</html>", b"\x89PNG\r\n\x1a\n" + b"\0" * 100])
def test_what_is_no_picture_is_302(lab: RunningLab, what):
    lab.project()
    client = lab.client()
    assert client.send(*client.next_frame(), what) == 302


def test_a_damaged_picture_is_302(lab: RunningLab, png):
    lab.project()
    client = lab.client()
    assert client.send(*client.next_frame(), png[: len(png) // 2]) == 302


def test_an_upload_that_is_cut_off_is_303_and_can_be_sent_again(lab: RunningLab, png):
    lab.project()
    client = lab.client()
    job, frame = client.next_frame()
    fields = {"job": job, "frame": frame, "rendertime": "1", "revision": "0"}
    whole = requests.Request("POST", lab.url, files={"file": ("a.png", png)}).prepare()
    answer = client.http.post(
        lab.url + client.paths["validate-job"], params=fields, data=whole.body[:-40],
        headers={"content-type": whole.headers["content-type"]}, timeout=10,
    )  # fmt: skip
    assert b'status="303"' in answer.content
    assert client.send(job, frame, png) == 0


def test_a_disk_that_cannot_take_the_picture_is_303(lab: RunningLab, png, tmp_path):
    lab.project()
    client = lab.client()
    job, frame = client.next_frame()
    blocked = tmp_path / "server" / "projects" / f"{job}-shot"
    blocked.write_text("a file where the folder should be")
    assert client.send(job, frame, png) == 303
    blocked.unlink()
    assert client.send(job, frame, png) == 0


def test_a_frame_that_is_too_large_is_refused_for_good_and_the_rest_goes_on(tmp_path, png):
    with running_lab(tmp_path, max_frame_bytes=1024 * 1024) as lab:
        lab.project()
        client = lab.client()
        job, frame = client.next_frame()
        assert client.send(job, frame, bytes(3 * 1024 * 1024)) == 302
        assert list((tmp_path / "server" / "incoming").iterdir()) == []
        assert client.send(job, frame, png) == 0


def test_an_upload_whose_answer_was_lost_is_answered_0_again_and_kept_once(lab: RunningLab, png, tmp_path):
    lab.project("1")
    client = lab.client()
    job, frame = client.next_frame()
    lab.post("/api/faults", exchange="validate-job", action="lost")
    with pytest.raises(requests.ConnectionError):
        client.send(job, frame, png)
    assert client.send(job, frame, picture(tmp_path, colour=(0, 1, 0, 1)), as_form=True) == 0
    assert requests.get(f"{lab.url}/projects/{job}/frames/{frame}", timeout=10).content == png
    books = requests.get(f"{lab.url}/api/accounting", timeout=10).json()
    assert (books["accepted"], books["again"]) == (1, 1)


def test_a_heartbeat_is_400_once_the_frame_is_not_wanted_from_this_account(lab: RunningLab, png):
    project = lab.project("1-4")
    client = lab.client()
    job, frame = client.next_frame()
    assert client.beat(job, frame) == 0
    assert client.beat(job, "0004") == 400
    assert client.beat("1", frame) == 400
    lab.post(f"/api/projects/{project.id}/pause")
    assert client.beat(job, frame) == 400
    lab.post(f"/api/projects/{project.id}/resume")
    job, frame = client.next_frame()
    client.send(job, frame, png)
    assert client.beat(job, frame) == 400
    job, frame = client.next_frame()
    lab.post(f"/api/projects/{project.id}/cancel")
    assert client.beat(job, frame) == 400
    assert client.request_job() == 200


def test_a_lease_expires_without_heartbeats_and_lives_with_them(lab: RunningLab, png):
    lab.project("1")
    lab.post("/api/mode", mode="normal")
    slow, other = lab.client(), lab.client()
    job, frame = slow.next_frame()
    lab.now += 105
    assert slow.beat(job, frame) == 0
    lab.now += 105
    assert other.request_job() == 200
    lab.now += 6
    assert other.next_frame() == (job, frame)
    assert slow.send(job, frame, png) == 0


def test_another_account_gets_an_expired_frame_and_the_first_is_told_to_stop(lab: RunningLab):
    requests.put(f"{lab.url}/api/accounts/ben", json={"password": "baa"}, auth=(LOGIN, PASSWORD), timeout=10)
    lab.project("1")
    anna, ben = lab.client(), lab.client("ben", "baa")
    job, frame = anna.next_frame()
    assert ben.request_job() == 200
    assert ben.beat(job, frame) == 400
    lab.now += 111
    assert ben.next_frame() == (job, frame)
    assert anna.beat(job, frame) == 400
    assert ben.beat(job, frame) == 0


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


def test_an_error_report_keeps_its_log_and_three_of_them_give_the_frame_up(lab: RunningLab):
    project = lab.project("1")
    client = lab.client()
    for number in range(3):
        assert client.report_error(*client.next_frame(), f"crash {number} " + "x" * 300_000) == 0
    assert client.request_job() == 200
    log = requests.get(f"{lab.url}/api/projects/{project.id}/frames/0001/log", timeout=10).text
    assert log.endswith("xxx")
    assert len(log) == 256 * 1024
    told = lab.owner.project(project.id)
    assert (told["state"], told["failed"]) == ("failed", 1)


def test_an_error_report_as_urlencoded_text_is_read_too(lab: RunningLab):
    project = lab.project("1")
    client = lab.client()
    job, frame = client.next_frame()
    fields = {"job": job, "frame": frame, "file": "no memory left", "rendertime": "3"}
    assert b'status="0"' in client.http.post(lab.url + client.paths["error"], data=fields, timeout=10).content
    log = requests.get(f"{lab.url}/api/projects/{project.id}/frames/0001/log", timeout=10).text
    assert log == "no memory left"


def test_archives_are_404_where_there_is_none(lab: RunningLab):
    lab.project()
    client = lab.client()
    job, _ = client.next_frame()
    assert client.download(type="job", job=job, revision="0").status_code == 200
    assert client.http.post(
        lab.url + "/server/download.php", data={"type": "job", "job": job, "revision": "0"}, timeout=10
    ).ok
    for wrong in ({"job": "1"}, {"revision": "9"}, {"type": "other"}, {"job": "../../etc/passwd"}, {"job": ""}):
        assert client.download(**{"type": "job", "job": job, "revision": "0", **wrong}).status_code == 404


def test_an_archive_can_be_fetched_from_its_middle(lab: RunningLab):
    lab.project()
    client = lab.client()
    job, _ = client.next_frame()
    whole = client.download(type="job", job=job, revision="0").content
    url, fields = lab.url + "/server/download.php", {"type": "job", "job": job, "revision": "0"}
    part = client.http.get(url, params=fields, headers={"range": "bytes=10-"}, timeout=10)
    assert (part.status_code, part.content) == (206, whole[10:])


def test_archives_of_finished_projects_are_named_for_deletion(lab: RunningLab, png):
    lab.project("1")
    client = lab.client()
    job, frame = client.next_frame()
    md5 = client.job["archive_md5"]
    client.send(job, frame, png)
    assert client.request_job(held=(md5, "0" * 32)) == 200
    assert [one.attrib for one in client.answer.findall("file")] == [{"md5": md5, "action": "delete"}]


def test_twenty_at_once_get_twenty_different_frames(lab: RunningLab, png):
    project = lab.project("1-20")
    clients = [lab.client() for _ in range(20)]
    with ThreadPoolExecutor(20) as threads:
        frames = list(threads.map(lambda client: client.next_frame(), clients))
        assert len(set(frames)) == 20
        sent = list(threads.map(lambda pair: pair[0].send(*pair[1], png), zip(clients, frames, strict=True)))
    assert sent == [0] * 20
    assert lab.owner.project(project.id)["state"] == "done"


@pytest.mark.parametrize("exchange", ["config", "request-job", "validate-job", "keepmealive", "error"])
def test_a_status_nobody_knows_comes_by_script(lab: RunningLab, exchange, png):
    lab.project()
    client = lab.client()
    lab.post("/api/faults", exchange=exchange, action="status:742")
    calls = {
        "config": client.sign_in,
        "request-job": client.request_job,
        "validate-job": lambda: client.send("100", "0001", png),
        "keepmealive": lambda: client.beat("100", "0001"),
        "error": lambda: client.report_error("100", "0001"),
    }
    assert calls[exchange]() == 742
    assert calls[exchange]() != 742


def test_scripted_faults_do_what_they_say(lab: RunningLab):
    lab.project()
    client = lab.client()
    job, _ = client.next_frame()
    whole = client.download(type="job", job=job, revision="0").content

    def next_is(action):
        lab.post("/api/faults", exchange="download-archive", action=action)
        return client.download(type="job", job=job, revision="0")

    for action in ("drop", "lost", "half"):
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            next_is(action)
    assert next_is("http:503").status_code == 503
    assert b"<html>" in next_is("garbage").content
    twisted = next_is("wrong-md5").content
    assert len(twisted) == len(whole)
    assert twisted != whole
    assert next_is("slow:0.2").elapsed.total_seconds() >= 0.2
    assert client.download(type="job", job=job, revision="0").content == whole


def test_faults_are_off_unless_enabled(tmp_path):
    with running_lab(tmp_path) as lab:
        fault = {"exchange": "config", "action": "drop"}
        answer = requests.post(f"{lab.url}/api/faults", json=fault, auth=(LOGIN, PASSWORD), timeout=10)
        assert answer.status_code == 404


def test_only_the_owner_may_submit_and_change(lab: RunningLab, tmp_path):
    project = lab.project()
    requests.put(f"{lab.url}/api/accounts/ben", json={"password": "baa"}, auth=(LOGIN, PASSWORD), timeout=10)
    for auth in (None, (LOGIN, "wrong"), ("ben", "baa")):
        for path in ("/api/projects", f"/api/projects/{project.id}/cancel", "/api/mode", "/api/faults"):
            assert requests.post(lab.url + path, auth=auth, timeout=10).status_code == 401
    other_site = {"sec-fetch-site": "cross-site"}
    path = f"{lab.url}/api/projects/{project.id}/cancel"
    assert requests.post(path, auth=(LOGIN, PASSWORD), headers=other_site, timeout=10).status_code == 401
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
    ("changed", "status", "said"),
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
def test_a_bad_project_is_refused_with_one_clear_line(lab: RunningLab, changed, status, said):
    with zipfile.ZipFile(body := io.BytesIO(), "w") as archive:
        archive.writestr("a.blend", "x")
    fields = {"name": "shot", "frames": "1", "scene": "a.blend", **changed}
    answer = requests.post(
        f"{lab.url}/api/projects", data=fields, files={"archive": ("a.zip", body.getvalue())}, auth=(LOGIN, PASSWORD),
        timeout=10,
    )  # fmt: skip
    assert answer.status_code == status
    assert said in answer.json()["detail"]
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
    told = requests.get(f"{lab.url}/api/overview", timeout=10).json()
    assert [one["frame"] for one in told["rendering"]] == ["0002"]
    assert (told["projects"][0]["accepted"], told["sessions"][0]["cpu"]) == (1, "Test CPU")
    thumb = requests.get(f"{lab.url}/projects/{job}/frames/{frame}?thumb=1", timeout=10)
    assert thumb.headers["content-type"] == "image/jpeg"
    pictures = requests.get(f"{lab.url}/api/projects/{job}/frames.zip", timeout=10).content
    assert zipfile.ZipFile(io.BytesIO(pictures)).read("0001.png") == png


def test_the_password_shows_up_in_nothing_the_server_says_or_writes(lab: RunningLab, tmp_path, caplog):
    caplog.set_level("DEBUG")
    lab.client()
    Client(lab.url).sign_in(password=PASSWORD + "!")
    assert logging.getLogger("lab.server.protocol.session_routes").isEnabledFor(logging.DEBUG)
    logged = [one.getMessage() for one in caplog.records if not one.name.startswith("urllib3")]  # that is the client
    assert logged
    assert "counting" not in json.dumps(requests.get(f"{lab.url}/api/overview", timeout=10).json()) + "".join(logged)
    for path in (tmp_path / "server").rglob("*"):
        assert not path.is_file() or b"counting sheep" not in path.read_bytes()
