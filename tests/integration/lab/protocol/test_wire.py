"""The bytes of the lab server's answers: how their headers are spelled, and what becomes of the connection."""

from __future__ import annotations

import http.client
import re
from pathlib import Path

import pytest

from tests.support.servers.running_lab import LOGIN, PASSWORD, Client, RunningLab, picture, running_lab
from tests.support.wire.captured_wire import RawAnswer, captured, exchange
from tests.support.wire.generation_readers import GENERATIONS, cookie_of, read_job

CANONICAL = re.compile(r"(?:[A-Z][a-z0-9]*)(?:-[A-Z][a-z0-9]*)*|ETag|WWW-Authenticate")
SIGN_IN = (
    f"/server/config.php?login={LOGIN}&password={PASSWORD.replace(' ', '%20')}&version=3.3.1762&os=linux&bits=64bit"
    "&cpu_family=6&cpu_model=85&cpu_model_name=Test&cpu_cores=8&ram=17179869184"
)


@pytest.fixture
def lab(tmp_path: Path):
    with running_lab(tmp_path, faults=True) as lab:
        yield lab


def ask(lab: RunningLab, method: str, target: str, *headers: str, version: str = "1.1") -> RawAnswer:
    host = lab.url.removeprefix("http://")
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *headers]
    lines += ["Content-Length: 0"] if method == "POST" else []
    return exchange(host, ("\r\n".join(lines) + "\r\n\r\n").encode())


def signed_in(lab: RunningLab) -> str:
    cookie = ask(lab, "GET", SIGN_IN).exactly("Set-Cookie")
    assert cookie is not None
    return cookie.partition(";")[0]


def test_every_header_of_every_answer_has_its_capitals(lab: RunningLab, tmp_path):
    project = lab.project("1-2")
    client = lab.client()
    frame = client.next_frame()
    md5 = client.job["archive_md5"]
    client.send(*frame, picture(tmp_path))
    [cookie] = [f"Cookie: sheepfold_session={value.value}" for value in client.http.cookies]
    job = f"job={project.id}"
    answers = [
        ask(lab, "GET", SIGN_IN),
        ask(lab, "GET", SIGN_IN.replace("password", "passwort")),
        ask(lab, "POST", "/server/request_job.php?computemethod=1", cookie),
        ask(lab, "GET", f"/server/download.php?type=job&{job}&revision=0", cookie),
        ask(lab, "GET", f"/server/download.php?type=job&{job}&revision=0", cookie, "Range: bytes=5-"),
        ask(lab, "HEAD", f"/server/download.php?type=job&{job}&revision=0", cookie),
        ask(lab, "GET", f"/server/download_binary.php?{job}", cookie),
        ask(lab, "GET", f"/server/download_chunk.php?chunk={md5}", cookie),
        ask(lab, "GET", "/server/download_chunk.php?chunk=none", cookie),
        ask(lab, "POST", f"/server/send_frame.php?{job}", cookie),
        ask(lab, "GET", "/server/keepmealive.php", cookie),
        ask(lab, "POST", "/server/error.php?type=0", cookie),
        ask(lab, "POST", "/server/speedtest.php", cookie),
        ask(lab, "GET", "/account.php", cookie),
        ask(lab, "GET", "/server/logout.php", cookie),
        ask(lab, "GET", "/nowhere"),
        ask(lab, "POST", "/api/mode"),
        ask(lab, "GET", "/"),
        ask(lab, "GET", f"/projects/{project.id}/frames/0001?thumb=1"),
    ]
    wrong = {name for answer in answers for name, _ in answer.headers if not CANONICAL.fullmatch(name)}
    assert wrong == set()
    assert all(answer.exactly("Date") for answer in answers)
    assert [answer.exactly("WWW-Authenticate") is not None for answer in answers].count(True) == 1
    assert answers[0].exactly("Set-Cookie")
    assert answers[14].exactly("Set-Cookie")


def test_the_end_of_a_connection_is_said_in_capitals_too(lab: RunningLab):
    for answer in (
        ask(lab, "GET", "/server/keepmealive.php", "Connection: close"),
        ask(lab, "GET", "/server/keepmealive.php", version="1.0"),
    ):
        assert [value for name, value in answer.headers if name == "Connection"] == ["close"]
        assert "connection" not in dict(answer.headers)


def test_an_answer_of_a_fault_is_spelled_as_any_other(lab: RunningLab):
    for action in ("status:742", "http:503", "garbage"):
        lab.post("/api/faults", exchange="keepmealive", action=action)
        answer = ask(lab, "GET", "/server/keepmealive.php")
        assert {name for name, _ in answer.headers if not CANONICAL.fullmatch(name)} == set()


def test_many_answers_come_on_one_connection(lab: RunningLab):
    connection = http.client.HTTPConnection(lab.url.removeprefix("http://"), timeout=10)
    cookie = {"Cookie": signed_in(lab)}
    for _ in range(5):
        connection.request("GET", "/server/keepmealive.php", headers=cookie)
        assert b'status="0"' in connection.getresponse().read()
    socket_before = connection.sock
    connection.request("GET", "/server/keepmealive.php", headers=cookie)
    assert connection.getresponse().status == 200
    assert connection.sock is socket_before
    connection.close()


def offered_url(lab: RunningLab, host: str) -> str:
    """Where the next frame goes, told to a client that calls the server by this name."""
    sign_in, request_job = captured("rust2024")[:2]
    address = lab.url.removeprefix("http://")
    cookie = cookie_of(GENERATIONS[2024], exchange(address, sign_in.with_secret(PASSWORD).raw(address)))
    return read_job(GENERATIONS[2024], exchange(address, request_job.raw(host, cookie))).validation_url


@pytest.fixture
def captured_account_lab(tmp_path: Path):
    """A server of the account that the captured clients sign in to."""
    with running_lab(tmp_path, login="studio") as lab:
        lab.project()
        yield lab


@pytest.mark.parametrize("host", ["evil.example/path", "a b", 'x"><y', "", "[::1", "a:99999999", "user@evil.example"])
def test_an_offer_never_repeats_a_host_that_is_none(captured_account_lab: RunningLab, host):
    assert offered_url(captured_account_lab, host).startswith(f"{captured_account_lab.url}/server/send_frame.php?")


@pytest.mark.parametrize("host", ["render.studio.example", "render_1:8421", "[fe80::1]:80"])
def test_an_offer_names_the_server_as_the_client_does(captured_account_lab: RunningLab, host):
    assert offered_url(captured_account_lab, host).startswith(f"http://{host}/server/send_frame.php?")


def test_both_addresses_end_a_session_and_a_stranger_to_the_query_does_not(lab: RunningLab):
    for target, remains in (("/server/logout.php", 0), ("/account.php?mode=logout&worker=1", 0), ("/account.php", 1)):
        cookie = signed_in(lab)
        ask(lab, "GET", target, f"Cookie: {cookie}")
        assert len(lab.services.sessions.known()) == remains


def test_a_speed_test_nobody_asked_for_is_taken_and_forgotten(lab: RunningLab):
    client = lab.client()
    url = lab.url + client.paths["speedtest-answer"]
    body = '<speedtest><target url="http://127.0.0.1/x" speed="12" ping="3"/></speedtest>'
    for sent in (body, "nonsense", ""):
        answer = client.http.post(url, data=sent, headers={"content-type": "application/xml"}, timeout=10)
        assert client._read(answer, "speedtest") == 0


def test_a_wrong_key_is_no_session(lab: RunningLab):
    assert Client(lab.url).sign_in(password="") == 104
    assert Client(lab.url).sign_in(password="A" * 43) == 102
