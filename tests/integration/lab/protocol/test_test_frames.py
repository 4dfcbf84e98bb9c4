"""Test frames: a new session renders its own first, and nothing of them stays but the time."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
import requests

from lab.server.services import LabServices
from lab.settings import ServerSettings
from tests.support.servers.running_lab import LOGIN, PASSWORD, Client, RunningLab, picture, running_lab


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A server's folder in which the scene of test frames is there already, so that no Blender has to build it."""
    (tmp_path / "server").mkdir(mode=0o700)
    with zipfile.ZipFile(tmp_path / "server" / "test-frame.zip", "w") as archive:
        archive.writestr("sheep.blend", b"BLENDER")
    return tmp_path


@pytest.fixture
def lab(folder: Path):
    with running_lab(folder, test_frames=2) as lab:
        yield lab


@pytest.fixture
def png(tmp_path: Path) -> bytes:
    return picture(tmp_path)


def session_of(lab: RunningLab) -> dict[str, object]:
    return requests.get(f"{lab.url}/api/overview", timeout=10).json()["sessions"][0]


def test_a_new_session_renders_its_test_frames_before_anything_else(lab: RunningLab, png):
    project = lab.project("1")
    client = lab.client()
    assert client.next_frame() == ("1", "0001")
    assert client.job["synchronous_upload"] == "1"
    assert client.job["path"] == "sheep.blend"
    scene = client.download(type="job", job="1").content
    assert hashlib.md5(scene).hexdigest() == client.job["archive_md5"]
    assert (
        client.http.get(
            lab.url + client.paths["download-chunk"], params={"chunk": client.job["archive_md5"]}, timeout=10
        ).content
        == scene
    )
    assert client.download(type="binary", job="1").status_code == 200
    assert client.next_frame() == ("1", "0001")  # until it is here
    assert client.beat("1", "0001") == 0
    assert client.send("1", "0001", png, rendertime="7") == 0
    assert client.next_frame() == ("2", "0001")
    assert client.send("2", "0001", png, rendertime="5") == 0
    assert session_of(lab) | {"tests_done": 2, "tests_wanted": 2, "test_render_s": 12} == session_of(lab)
    assert client.next_frame() == (str(project.id), "0001")


def test_nothing_of_a_test_frame_is_kept(lab: RunningLab, png, tmp_path):
    client = lab.client()
    client.next_frame()
    assert client.send("1", "0001", png) == 0
    assert list((tmp_path / "server" / "projects").iterdir()) == []
    assert list((tmp_path / "server" / "incoming").iterdir()) == []
    accounting = requests.get(f"{lab.url}/api/accounting", timeout=10).json()
    assert (accounting["grants"], accounting["accepted"]) == (0, 0)


def test_a_session_is_not_concerned_with_anothers_test_frames(lab: RunningLab, png):
    first, second = lab.client(), lab.client()
    first.next_frame()
    second.next_frame()
    assert first.send("2", "0001", png) == 300
    assert first.send("1", "0001", png) == 0
    assert second.send("2", "0001", png) == 300
    assert second.next_frame() == ("1", "0001")
    assert second.beat("2", "0001") == 400


def test_a_test_frame_that_comes_twice_is_counted_once(lab: RunningLab, png):
    client = lab.client()
    client.next_frame()
    assert [client.send("1", "0001", png) for _ in range(2)] == [0, 0]
    assert session_of(lab)["tests_done"] == 1
    assert client.beat("1", "0001") == 400


def test_a_machine_that_brings_no_picture_three_times_is_disabled(lab: RunningLab):
    client = lab.client()
    client.next_frame()
    assert client.send("1", "0001", b"no picture") == 302
    assert client.report_error("1", "0001") == 0
    assert client.next_frame() == ("1", "0001")
    assert client.report_error("1", "0001") == 0
    assert client.request_job() == 203


def test_a_restart_remembers_what_is_tested(folder, png):
    with running_lab(folder, test_frames=2) as lab:
        client = lab.client()
        client.next_frame()
        client.send("1", "0001", png)
        cookies = client.http.cookies
    with running_lab(folder, test_frames=2) as lab:
        again = Client(lab.url)
        again.paths, again.http.cookies = client.paths, cookies
        assert again.next_frame() == ("2", "0001")


def test_there_are_none_unless_asked_for(tmp_path, png):
    with running_lab(tmp_path) as lab:
        client = lab.client()
        assert client.request_job() == 200
        assert client.send("1", "0001", png) == 300
        assert client.beat("1", "0001") == 400
        assert client.download(type="job", job="1").status_code == 404


@pytest.mark.blender
def test_blender_builds_the_scene_once(blender, tmp_path, monkeypatch):
    monkeypatch.setenv("SHEEPFOLD_BLENDER", blender)
    settings = ServerSettings(login=LOGIN, password=PASSWORD, server_dir=tmp_path / "server", test_frames=1)
    services = LabServices(settings)
    assert services.test_frames is not None
    built = services.test_frames.scene
    with zipfile.ZipFile(built.path) as archive:
        assert built.scene in archive.namelist()
    services.close()
    monkeypatch.setenv("SHEEPFOLD_BLENDER", "/nowhere")
    again = LabServices(settings)
    assert again.test_frames is not None
    assert again.test_frames.scene == built
    again.close()
