"""Frames of the lab server: granted, kept alive, rendered, reported, with their archives."""

from __future__ import annotations

import hashlib
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.support.servers.running_lab import LOGIN, PASSWORD, RunningLab


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
    shown = lab.owner.project(project.id)["list"][0]
    assert (shown["state"], shown["render_s"], shown["memory_kb"], shown["file"]) == ("accepted", 7, 1000, "0005.png")


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


def test_an_error_report_keeps_its_log_and_three_of_them_give_the_frame_up(lab: RunningLab):
    project = lab.project("1")
    client = lab.client()
    for number in range(3):
        assert client.report_error(*client.next_frame(), f"crash {number} " + "x" * 300_000) == 0
    assert client.request_job() == 200
    log = requests.get(f"{lab.url}/api/projects/{project.id}/frames/0001/log", timeout=10).text
    assert log.endswith("xxx")
    assert len(log) == 256 * 1024
    shown = lab.owner.project(project.id)
    assert (shown["state"], shown["failed"]) == ("failed", 1)


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
    assert [element.attrib for element in client.answer.findall("file")] == [{"md5": md5, "action": "delete"}]


def test_twenty_at_once_get_twenty_different_frames(lab: RunningLab, png):
    project = lab.project("1-20")
    clients = [lab.client() for _ in range(20)]
    with ThreadPoolExecutor(20) as threads:
        frames = list(threads.map(lambda client: client.next_frame(), clients))
        assert len(set(frames)) == 20
        sent = list(threads.map(lambda pair: pair[0].send(*pair[1], png), zip(clients, frames, strict=True)))
    assert sent == [0] * 20
    assert lab.owner.project(project.id)["state"] == "done"
