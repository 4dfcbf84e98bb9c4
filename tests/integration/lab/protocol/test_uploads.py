"""The lab server judges uploads: every status for its real reason."""

from __future__ import annotations

import pytest
import requests

from tests.support.servers.running_lab import RunningLab, picture, running_lab


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
    accounting = requests.get(f"{lab.url}/api/accounting", timeout=10).json()
    assert (accounting["accepted"], accounting["again"]) == (1, 1)
