"""The server client against a small real HTTP server on loopback that can misbehave in every way."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.upstream.client import ServerClient
from coordinator.upstream.errors import ArchiveGone, BadAnswer, DownloadCancelled, ServerSilent
from sheepfold.protocol.messages import ErrorReport
from sheepfold.protocol.reading_requests import read_job_request
from sheepfold.protocol.status import BeatStatus, JobStatus, SignInStatus, ValidationStatus
from tests.support.servers.misbehaving_server import (
    BEAT,
    CONFIG,
    JOB,
    PASSWORD,
    SCENE,
    SIGN_IN,
    UPLOAD,
    MisbehavingServer,
    ReceivedRequest,
    download,
)

# Every exchange as the specification has it


def test_signing_in_sends_every_parameter_and_keeps_the_endpoints(
    server: MisbehavingServer, client: ServerClient
) -> None:
    answer = client.sign_in(SIGN_IN)

    assert answer.endpoints is client.endpoints
    assert client.endpoints
    assert client.endpoints.max_period_s == 1440
    [request] = server.received
    assert request.method == "GET"
    assert request.query == {
        "login": "studio", "password": PASSWORD, "version": "3.3.1762", "os": "linux", "bits": "64bit",
        "cpu_family": "6", "cpu_model": "1", "cpu_model_name": "A CPU", "cpu_cores": "8", "ram": str(2**34),
    }  # fmt: skip
    assert request.headers["User-Agent"].startswith("sheepfold")


def test_a_refused_sign_in_keeps_the_session_there_was(server: MisbehavingServer, signed_in: ServerClient) -> None:
    before = signed_in.endpoints
    server.pages["/server/config.php"] = lambda request: request.answer('<config status="102" />', 401)

    assert signed_in.sign_in(SIGN_IN).status == SignInStatus.AUTHENTICATION_FAILED
    assert signed_in.endpoints is before


def test_a_job_request_has_its_method_in_the_query_and_the_held_archives_in_the_body(
    server: MisbehavingServer, signed_in: ServerClient
) -> None:
    server.pages["/server/request_job.php"] = lambda request: request.answer('<jobrequest status="200" />')

    assert signed_in.request_job(JOB).status == JobStatus.NO_JOB
    request = server.received[-1]
    assert (request.method, request.query["from"]) == ("POST", "config")
    assert read_job_request(request.query, request.body) == JOB


def test_a_frame_travels_as_the_part_file_and_its_facts_in_the_query(
    server: MisbehavingServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda request: request.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0340.png"
    picture.write_bytes(b"\x89PNG" + bytes(range(256)) * 1000)

    assert signed_in.validate(UPLOAD, picture).status == ValidationStatus.OK
    request = server.received[-1]
    assert request.query == {
        "job": "1", "frame": "0340", "rendertime": "12", "revision": "3", "extras": "a&b", "memoryused": "9",
        "cores": "8",
    }  # fmt: skip
    assert 'name="file"; filename="1_0340.png"\r\nContent-Type: image/png' in request.body[:300].decode("latin-1")
    assert picture.read_bytes() in request.body


def test_an_upload_is_named_after_job_and_frame_and_nothing_else_of_theirs_gets_into_its_name(
    server: MisbehavingServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda request: request.answer('<jobvalidate status="0" />')
    picture = tmp_path / "3f2a.1.exr"
    picture.write_bytes(b"picture")

    signed_in.validate(replace(UPLOAD, job='../a"\r\nX: 1', frame="-0012" + "9" * 300), picture)
    name = re.search(rb'filename="([^"]*)"', server.received[-1].body)
    assert name
    assert name[1].decode() == "___a___X__1_-0012" + "9" * 55 + ".exr"


def test_a_picture_that_is_too_large_for_the_proxy_is_too_large_for_the_server(
    server: MisbehavingServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda request: request.answer("<html>too large</html>", 413)
    picture = tmp_path / "0340.png"
    picture.write_bytes(b"picture")

    assert signed_in.validate(UPLOAD, picture).status == ValidationStatus.IMAGE_TOO_LARGE


WHOLE_URL = "/elsewhere/frame.php?job=1&token=a%2Fb%2Bc%3D%3D&empty=&extras=%25"


def test_an_offers_own_address_is_kept_as_it_is_and_appended_to(
    server: MisbehavingServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    other = MisbehavingServer()
    other.pages["/elsewhere/frame.php"] = lambda request: request.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0340.png"
    picture.write_bytes(b"picture")
    try:
        whole = f"http://localhost:{other.http.server_port}{WHOLE_URL}"
        assert signed_in.validate(UPLOAD, picture, whole).status == ValidationStatus.OK
        [request] = other.received
        assert request.handler.path == WHOLE_URL + "&rendertime=12&memoryused=9"
        assert request.method == "POST"
        assert b'name="file"; filename="1_0340.png"' in request.body
        assert request.headers["Cookie"] is None, "this host gave us none"
        assert len(server.received) == 1, "only the sign-in"
    finally:
        other.stop()


def test_an_offers_own_address_without_a_query_gets_one(
    server: MisbehavingServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/frame"] = lambda request: request.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0340.png"
    picture.write_bytes(b"picture")

    signed_in.validate(UPLOAD, picture, server.url + "/frame#end")
    assert server.received[-1].handler.path == "/frame?rendertime=12&memoryused=9"


def test_a_server_without_an_address_for_frames_is_sent_none(
    server: MisbehavingServer, client: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/config.php"] = lambda request: request.answer(
        re.sub('<request type="validate-job"[^>]*>', "", CONFIG)
    )
    client.sign_in(SIGN_IN)
    picture = tmp_path / "0340.png"
    picture.write_bytes(b"picture")

    with pytest.raises(BadAnswer, match="no address"):
        client.validate(UPLOAD, picture)
    assert len(server.received) == 1


def test_only_a_server_that_reads_it_is_told_that_a_black_frame_is_confirmed(
    server: MisbehavingServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda request: request.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0340.png"
    picture.write_bytes(b"black")
    confirmed = replace(UPLOAD, is_confirmed=True)
    signed_in.validate(confirmed, picture)
    assert "confirmed" not in server.received[-1].query

    reads_it = CONFIG.replace('"/server/send_frame.php"', '"/server/send_frame.php" confirmed="1"')
    assert reads_it != CONFIG
    server.pages["/server/config.php"] = lambda request: request.answer(reads_it)
    signed_in.sign_in(SIGN_IN)
    signed_in.validate(confirmed, picture)
    assert server.received[-1].query["confirmed"] == "1"
    signed_in.validate(UPLOAD, picture)
    assert "confirmed" not in server.received[-1].query


def test_a_large_frame_is_sent_without_being_read_into_memory(
    server: MisbehavingServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda request: request.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0001.exr"
    with picture.open("wb") as file:
        os.truncate(file.fileno(), 100_000_000)

    tracemalloc.start(1)
    try:
        signed_in.validate(UPLOAD, picture)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert server.received[-1].size > 100_000_000
    assert peak < 4_000_000


def test_a_heartbeat_says_which_frame_and_hears_when_to_stop(
    server: MisbehavingServer, signed_in: ServerClient
) -> None:
    server.pages["/server/keepmealive.php"] = lambda request: request.answer('<keepmealive status="400" />')

    assert signed_in.beat(BEAT).status == BeatStatus.STOP
    assert server.received[-1].query == {"job": "1", "frame": "0340", "extras": ""}


def test_an_error_report_carries_its_log(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages["/server/error.php"] = lambda request: request.answer('<error status="0" />')

    signed_in.report_error(ErrorReport(job="1", frame="2", render_time_s=3), "Fehler: größer als 💾 and \ud800")

    request = server.received[-1]
    assert request.query == {"job": "1", "frame": "2", "rendertime": "3"}
    assert 'name="file"' in request.body.decode()
    assert "größer als 💾 and ?" in request.body.decode()


def test_a_server_that_takes_no_error_reports_counts_as_told(server: MisbehavingServer, client: ServerClient) -> None:
    server.pages["/server/config.php"] = lambda request: request.answer(
        re.sub('<request type="error"[^>]*>', "", CONFIG)
    )
    client.sign_in(SIGN_IN)

    assert client.report_error(ErrorReport(job="1", frame="2"), "log").status == 0
    assert len(server.received) == 1


def test_logging_out_ends_the_session_even_if_nobody_listens(
    server: MisbehavingServer, signed_in: ServerClient
) -> None:
    server.pages["/account.php"] = lambda request: request.answer("bye")

    signed_in.log_out()

    assert server.received[-1].query == {"mode": "logout", "worker": "1"}
    assert server.received[-1].headers["Cookie"] == "WORKER=42"
    assert signed_in.endpoints is None
    with pytest.raises(ServerSilent, match="not signed in"):
        signed_in.beat(BEAT)


# Archives


def test_an_archive_arrives_whole(server: MisbehavingServer, signed_in: ServerClient) -> None:
    data = os.urandom(300_000)
    server.pages["/server/download.php"] = lambda request: request.answer(data)

    assert hashlib.md5(download(signed_in)).digest() == hashlib.md5(data).digest()
    assert server.received[-1].query == {"type": "job", "job": "1", "revision": "0"}


def test_a_404_means_that_the_archive_is_gone(signed_in: ServerClient) -> None:
    with pytest.raises(ArchiveGone):
        download(signed_in)


def test_half_a_download_is_no_download(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages["/server/download.php"] = lambda request: request.raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500
    )

    with pytest.raises(ServerSilent, match="broke off"):
        download(signed_in)


def test_half_a_chunk_is_no_download(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages["/server/download.php"] = lambda request: request.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 500
    )

    with pytest.raises(ServerSilent):
        download(signed_in)


def test_an_archive_above_the_limit_is_refused_before_and_while_it_arrives(
    server: MisbehavingServer, signed_in: ServerClient
) -> None:
    server.pages["/server/download.php"] = lambda request: request.answer(b"x" * 300_000)
    with pytest.raises(ServerSilent, match="larger than the limit"):
        download(signed_in, limit=200_000)

    server.pages["/server/download.php"] = lambda request: request.raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
    with pytest.raises(ServerSilent, match="larger than the limit"):
        download(signed_in, limit=200_000)


def test_a_download_that_stalls_can_be_given_up(server: MisbehavingServer, signed_in: ServerClient) -> None:
    gone, given_up = threading.Event(), threading.Event()

    def drip(request: ReceivedRequest) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\n\r\n")
        given_up.set()
        request.drip(b"x", gone)

    server.pages["/server/download.php"] = drip

    with pytest.raises(DownloadCancelled):
        download(signed_in, cancelled=given_up.is_set)
    assert gone.wait(5)


def test_a_full_disk_is_not_the_servers_silence(server: MisbehavingServer, signed_in: ServerClient) -> None:
    class FullDisk(io.BytesIO):
        def write(self, _data: object) -> int:
            raise OSError(28, "No space left on device")

    server.pages["/server/download.php"] = lambda request: request.answer(b"x" * 10)

    with pytest.raises(OSError, match="No space left"):
        signed_in.download(SCENE, FullDisk(), limit_bytes=100, cancelled=lambda: False)


# Cookies and sessions


def test_the_cookie_goes_back_whatever_its_name_and_in_every_thread(
    server: MisbehavingServer, client: ServerClient
) -> None:
    server.pages["/server/config.php"] = lambda request: request.answer(CONFIG, Set_Cookie="odd.name=a%20b; HttpOnly")
    server.pages["/server/keepmealive.php"] = lambda request: request.answer(
        '<keepmealive status="0" />', Set_Cookie=f"rotating{len(server.received)}=1"
    )
    client.sign_in(SIGN_IN)

    def beat_often() -> None:
        for _ in range(10):
            client.beat(BEAT)
        client.close()

    threads = [threading.Thread(target=beat_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    beats = [request for request in server.received if request.path == "/server/keepmealive.php"]
    assert len(beats) == 80
    assert all("odd.name=a%20b" in request.headers["Cookie"] for request in beats)


def test_each_sign_in_begins_with_fresh_cookies(server: MisbehavingServer, signed_in: ServerClient) -> None:
    signed_in.sign_in(SIGN_IN)

    assert server.received[-1].headers["Cookie"] is None


def test_a_session_outlives_the_process(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages["/server/keepmealive.php"] = lambda request: request.answer('<keepmealive status="0" />')
    later = ServerClient(server.url)

    later.thaw(signed_in.freeze())

    assert later.endpoints == signed_in.endpoints
    later.beat(BEAT)
    assert server.received[-1].headers["Cookie"] == "WORKER=42"
    later.close()


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}", '{"root": "http://elsewhere/"}', '{"root": 1}'])
def test_a_remembered_session_that_cannot_be_used_is_left(client: ServerClient, text: str) -> None:
    client.thaw(text)

    assert client.endpoints is None
