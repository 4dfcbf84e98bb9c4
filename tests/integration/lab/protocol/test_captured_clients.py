"""The lab server answers what public clients sent, letter by letter, so that their generation can read it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.servers.running_lab import PASSWORD, RunningLab, picture, running_lab
from tests.support.wire.captured_wire import CLIENTS, CapturedRequest, RawAnswer, captured, exchange
from tests.support.wire.generation_readers import GENERATIONS, cookie_of, read_config, read_job, status_of

YEARS = {"java2015": 2015, "java2020": 2020, "java2022": 2022, "rust2024": 2024}


@pytest.fixture
def lab(tmp_path: Path):
    with running_lab(tmp_path, login="studio") as lab:
        yield lab


class Replay:
    """One client's requests, sent again in their order, with our password, jobs and pictures filled in."""

    def __init__(self, lab: RunningLab, client: str, png: bytes) -> None:
        self.lab = lab
        self.client = client
        self.png = png
        self.generation = GENERATIONS[YEARS[client]]
        self.cookie = ""
        self.paths: dict[str, str] = {}
        self.jobs: list[tuple[str, str]] = []
        self.uploaded = 0

    @property
    def host(self) -> str:
        return self.lab.url.removeprefix("http://")

    def send(self, request: CapturedRequest) -> RawAnswer:
        return exchange(self.host, request.raw(self.host, self.cookie))

    def replay(self, request: CapturedRequest) -> None:
        """Send one request and read its answer as this generation does."""
        answers = {
            "/server/config.php": self._sign_in,
            "/server/request_job.php": self._request_job,
            "/server/download.php": self._download,
            "/server/download_binary.php": self._download,
            "/server/download_chunk.php": self._download,
            "/server/send_frame.php": self._upload,
            "/server/keepmealive.php": lambda asked: self._is_ok(asked, "keepmealive"),
            "/server/error.php": lambda asked: self._is_ok(asked.closed(), "error"),
            "/server/logout.php": self._log_out,
        }
        answers[request.path](request)

    def _sign_in(self, request: CapturedRequest) -> None:
        answer = self.send(request.with_secret(PASSWORD))
        self.cookie = cookie_of(self.generation, answer)
        self.paths = read_config(self.generation, answer)

    def _request_job(self, request: CapturedRequest) -> None:
        answer = self.send(request)
        self.job = read_job(self.generation, answer)
        self.jobs.append((self.job.job, self.job.frame))

    def _download(self, request: CapturedRequest) -> None:
        asked = request.with_frame(job=self.job.job, frame=self.job.frame, picture=b"")
        answer = self.send(asked.with_chunk(self.job.scene_md5s[0]))
        is_scene = request.query.get("type") == "job" or "chunk" in request.query
        expected = self.job.scene_md5s[0] if is_scene else self.job.renderer_md5
        assert answer.status == 200
        assert hashlib.md5(answer.body).hexdigest() == expected

    def _upload(self, request: CapturedRequest) -> None:
        job, frame = self.jobs[self.uploaded]
        self.uploaded += 1
        self._is_ok(request.with_frame(job=job, frame=frame, picture=self.png), "jobvalidate")

    def _is_ok(self, request: CapturedRequest, root: str) -> None:
        assert status_of(self.send(request), root) == 0

    def _log_out(self, request: CapturedRequest) -> None:
        assert request.path == self.paths["logout"]
        assert self.send(request).status == 200


@pytest.mark.parametrize("client", CLIENTS)
def test_a_public_client_is_answered_in_its_generations_words(lab: RunningLab, tmp_path, client):
    project = lab.project("1-2")
    replay = Replay(lab, client, picture(tmp_path))
    for request in captured(client):
        replay.replay(request)
    assert replay.jobs == [(str(project.id), "0001"), (str(project.id), "0002")]
    shown = lab.owner.project(project.id)
    assert (shown["state"], shown["accepted"]) == ("done", 2)
    if "logout" in [request.path.rpartition("/")[2].removesuffix(".php") for request in captured(client)]:
        assert lab.services.sessions.known() == []


@pytest.mark.parametrize("year", GENERATIONS)
def test_every_generation_finds_what_it_looks_for_in_the_same_answers(lab: RunningLab, year):
    lab.project("1-2", name="a shot: ü & é")
    generation = GENERATIONS[year]
    replay = Replay(lab, "java2015", b"")
    sign_in, ask, *_ = captured("java2015")
    answer = replay.send(sign_in.with_secret(PASSWORD))
    replay.cookie = cookie_of(generation, answer)
    read_config(generation, answer)
    job = read_job(generation, replay.send(ask))
    compile(job.script, "script", "exec")
    assert "def sheepit_set_compute_device(kind, device, name):" in job.script


@pytest.mark.parametrize("client", ["java2020", "java2022", "rust2024"])
def test_a_frame_arrives_by_the_whole_url_of_its_offer(lab: RunningLab, tmp_path, client):
    project = lab.project("1-2")
    replay = Replay(lab, client, picture(tmp_path))
    requests = captured(client)
    replay.replay(requests[0])
    replay.replay(next(request for request in requests if request.path == "/server/request_job.php"))
    url = urlsplit(replay.job.validation_url)
    assert f"{url.scheme}://{url.netloc}" == lab.url
    upload = next(request for request in requests if request.path == url.path)
    filled = upload.with_frame(job=replay.job.job, frame=replay.job.frame, picture=replay.png)
    figures = "&".join(part for part in upload.target.split("&") if part.startswith(("rendertime", "memoryused")))
    target = f"{url.path}?{url.query}&{figures}"
    assert set(CapturedRequest(**{**vars(filled), "target": target}).query) == set(upload.query)
    assert status_of(replay.send(CapturedRequest(**{**vars(filled), "target": target})), "jobvalidate") == 0
    assert lab.owner.project(project.id)["accepted"] == 1


def test_the_public_key_signs_the_captured_client_in_again(lab: RunningLab):
    sign_in = captured("rust2024")[0]
    replay = Replay(lab, "rust2024", b"")
    replay.replay(sign_in)
    key = replay.paths["publickey"]
    again = replay.send(sign_in.with_secret(key))
    assert read_config(GENERATIONS[2024], again)["publickey"] == key
    assert cookie_of(GENERATIONS[2024], again) != replay.cookie
    assert status_of(replay.send(sign_in.with_secret(key + "x")), "config") == 102


def test_what_the_client_of_2015_holds_is_told_for_deletion_though_it_calls_its_list_a_form(lab: RunningLab, tmp_path):
    project = lab.project("1")
    replay = Replay(lab, "java2015", picture(tmp_path))
    requests = captured("java2015")
    for request in requests[:5]:
        replay.replay(request)
    [md5] = replay.job.scene_md5s
    asked = requests[5]
    held = asked.body.replace(b"5520a3a37d2209e9926e3674516db806", md5.encode())
    answer = replay.send(CapturedRequest(**{**vars(asked), "body": held}))
    assert status_of(answer, "jobrequest") == 200
    assert f'<file md5="{md5}" action="delete"/>'.encode() in answer.body
    assert lab.owner.project(project.id)["state"] == "done"


def test_a_heartbeat_that_names_no_frame_is_told_to_go_on(lab: RunningLab):
    lab.project()
    replay = Replay(lab, "java2015", b"")
    sign_in, ask, *_ = captured("java2015")
    replay.replay(sign_in)
    [beat, *_] = captured("java2015_beat")
    assert status_of(replay.send(beat), "keepmealive") == 0
    replay.replay(ask)
    assert status_of(replay.send(beat), "keepmealive") == 0
