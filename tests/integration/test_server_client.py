"""The server client against a small real HTTP server on loopback that can misbehave in every way."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import logging
import os
import re
import socket
import ssl
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from coordinator.protocol.messages import (
    ArchiveRequest,
    Beat,
    ComputeMethod,
    Credentials,
    ErrorReport,
    FrameUpload,
    Hardware,
    JobRequest,
    SignInRequest,
)
from coordinator.protocol.reading import read_job_request
from coordinator.protocol.status import BeatStatus, JobStatus, SignInStatus, ValidationStatus
from coordinator.server_client import ArchiveGone, DownloadCancelled, ServerClient, ServerSilent

PASSWORD = "s3cret & päss/wörd"
CONFIG = (
    '<?xml version="1.0" encoding="utf-8" ?><config status="0">'
    '<request type="validate-job" path="/server/send_frame.php" />'
    '<request type="request-job" path="/server/request_job.php?from=config" />'
    '<request type="download-archive" path="/server/download.php" />'
    '<request type="error" path="/server/error.php" />'
    '<request type="keepmealive" path="/server/keepmealive.php" max-period="1440" />'
    '<request type="logout" path="/account.php?mode=logout&worker=1" /></config>'
)
SIGN_IN = SignInRequest(
    credentials=Credentials(login="studio", password=PASSWORD),
    version="3.3.1762",
    hardware=Hardware(
        os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="A CPU", cpu_cores=8, ram=2**34
    ),
)
JOB = JobRequest(compute_method=ComputeMethod.CPU_ONLY, held_archives=("0" * 31 + "a",))
UPLOAD = FrameUpload(job="1", frame="0340", render_time_s=12, revision="3", extras="a&b", memory_used_kb=9, cores=8)
BEAT = Beat(job="1", frame="0340", extras="")
SCENE = ArchiveRequest(type="job", job="1", revision="0")


class Visit:
    """One request as the server saw it, and the means to answer it well or badly."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self.handler = handler
        self.method = handler.command
        self.path = urlsplit(handler.path).path
        self.query = dict(parse_qsl(urlsplit(handler.path).query, keep_blank_values=True))
        self.headers = handler.headers
        self.size = int(handler.headers.get("content-length") or 0)
        self.body = handler.rfile.read(min(self.size, 1_000_000))
        # The rest of a large upload is only counted: it would hide what the client keeps in memory.
        left = self.size - len(self.body)
        while left:
            left -= len(handler.rfile.read(min(left, 65536)))

    def answer(self, body: bytes | str, code: int = 200, **headers: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.handler.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def raw(self, data: bytes) -> None:
        self.handler.wfile.write(data)
        self.handler.close_connection = True

    def drip(self, data: bytes, gone: threading.Event) -> None:
        """One byte at a time until the client has had enough."""
        self.handler.close_connection = True
        try:
            for byte in data * 10_000:
                self.handler.wfile.write(bytes([byte]))
                if gone.wait(0.02):
                    return
        except OSError:
            gone.set()


class RenderServer:
    """Answers each path with the function set for it; remembers every visit."""

    def __init__(self) -> None:
        self.visits: list[Visit] = []
        self.pages: dict[str, Callable[[Visit], None]] = {
            "/server/config.php": lambda visit: visit.answer(CONFIG, Set_Cookie="WORKER=42; path=/"),
        }
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                visit = Visit(self)
                owner.visits.append(visit)
                owner.pages.get(visit.path, lambda visit: visit.answer("nothing here", 404))(visit)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_args: object) -> None:
                """Silence."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: object) -> None:
                """Clients leave in the middle; that is what is tested."""

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self._thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join(5)


@pytest.fixture
def server() -> Iterator[RenderServer]:
    running = RenderServer()
    yield running
    running.stop()


@pytest.fixture
def client(server: RenderServer) -> Iterator[ServerClient]:
    made = ServerClient(server.url, connect_timeout_s=2, read_timeout_s=2, answer_deadline_s=4)
    yield made
    made.close()


@pytest.fixture
def signed_in(client: ServerClient) -> ServerClient:
    assert client.sign_in(SIGN_IN).status == SignInStatus.OK
    return client


def download(client: ServerClient, *, limit: int = 10**6, cancelled: Callable[[], bool] = lambda: False) -> bytes:
    target = io.BytesIO()
    client.download(SCENE, target, limit_bytes=limit, cancelled=cancelled)
    return target.getvalue()


# Every exchange as the specification has it


def test_signing_in_sends_every_parameter_and_keeps_the_endpoints(server: RenderServer, client: ServerClient) -> None:
    answer = client.sign_in(SIGN_IN)

    assert answer.endpoints is client.endpoints
    assert client.endpoints
    assert client.endpoints.max_period_s == 1440
    [visit] = server.visits
    assert visit.method == "GET"
    assert visit.query == {
        "login": "studio", "password": PASSWORD, "version": "3.3.1762", "os": "linux", "bits": "64bit",
        "cpu_family": "6", "cpu_model": "1", "cpu_model_name": "A CPU", "cpu_cores": "8", "ram": str(2**34),
    }  # fmt: skip
    assert visit.headers["User-Agent"].startswith("sheepfold")


def test_a_refused_sign_in_keeps_the_session_there_was(server: RenderServer, signed_in: ServerClient) -> None:
    before = signed_in.endpoints
    server.pages["/server/config.php"] = lambda visit: visit.answer('<config status="102" />', 401)

    assert signed_in.sign_in(SIGN_IN).status == SignInStatus.AUTHENTICATION_FAILED
    assert signed_in.endpoints is before


def test_a_job_request_has_its_method_in_the_query_and_the_held_archives_in_the_body(
    server: RenderServer, signed_in: ServerClient
) -> None:
    server.pages["/server/request_job.php"] = lambda visit: visit.answer('<jobrequest status="200" />')

    assert signed_in.request_job(JOB).status == JobStatus.NO_JOB
    visit = server.visits[-1]
    assert (visit.method, visit.query["from"]) == ("POST", "config")
    assert read_job_request(visit.query, visit.body) == JOB


def test_a_frame_travels_as_the_part_file_and_its_facts_in_the_query(
    server: RenderServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda visit: visit.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0340.png"
    picture.write_bytes(b"\x89PNG" + bytes(range(256)) * 1000)

    assert signed_in.validate(UPLOAD, picture).status == ValidationStatus.OK
    visit = server.visits[-1]
    assert visit.query == {
        "job": "1", "frame": "0340", "rendertime": "12", "revision": "3", "extras": "a&b", "memoryused": "9",
        "cores": "8",
    }  # fmt: skip
    assert 'name="file"; filename="0340.png"\r\nContent-Type: image/png' in visit.body[:300].decode("latin-1")
    assert picture.read_bytes() in visit.body


def test_only_a_server_that_reads_it_is_told_that_a_black_frame_is_confirmed(
    server: RenderServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda visit: visit.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0340.png"
    picture.write_bytes(b"black")
    confirmed = dataclasses.replace(UPLOAD, is_confirmed=True)
    signed_in.validate(confirmed, picture)
    assert "confirmed" not in server.visits[-1].query

    reads_it = CONFIG.replace('"/server/send_frame.php"', '"/server/send_frame.php" confirmed="1"')
    assert reads_it != CONFIG
    server.pages["/server/config.php"] = lambda visit: visit.answer(reads_it)
    signed_in.sign_in(SIGN_IN)
    signed_in.validate(confirmed, picture)
    assert server.visits[-1].query["confirmed"] == "1"
    signed_in.validate(UPLOAD, picture)
    assert "confirmed" not in server.visits[-1].query


def test_a_large_frame_is_sent_without_being_read_into_memory(
    server: RenderServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda visit: visit.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0001.exr"
    with picture.open("wb") as file:
        os.truncate(file.fileno(), 100_000_000)

    tracemalloc.start(1)
    try:
        signed_in.validate(UPLOAD, picture)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert server.visits[-1].size > 100_000_000
    assert peak < 4_000_000


def test_a_heartbeat_says_which_frame_and_hears_when_to_stop(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/server/keepmealive.php"] = lambda visit: visit.answer('<keepmealive status="400" />')

    assert signed_in.beat(BEAT).status == BeatStatus.STOP
    assert server.visits[-1].query == {"job": "1", "frame": "0340", "extras": ""}


def test_an_error_report_carries_its_log(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/server/error.php"] = lambda visit: visit.answer('<error status="0" />')

    signed_in.report_error(ErrorReport(job="1", frame="2", render_time_s=3), "Fehler: größer als 💾 and \ud800")

    visit = server.visits[-1]
    assert visit.query == {"job": "1", "frame": "2", "rendertime": "3"}
    assert 'name="file"' in visit.body.decode()
    assert "größer als 💾 and ?" in visit.body.decode()


def test_a_server_that_takes_no_error_reports_counts_as_told(server: RenderServer, client: ServerClient) -> None:
    server.pages["/server/config.php"] = lambda visit: visit.answer(re.sub('<request type="error"[^>]*>', "", CONFIG))
    client.sign_in(SIGN_IN)

    assert client.report_error(ErrorReport(job="1", frame="2"), "log").status == 0
    assert len(server.visits) == 1


def test_logging_out_ends_the_session_even_if_nobody_listens(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/account.php"] = lambda visit: visit.answer("bye")

    signed_in.log_out()

    assert server.visits[-1].query == {"mode": "logout", "worker": "1"}
    assert server.visits[-1].headers["Cookie"] == "WORKER=42"
    assert signed_in.endpoints is None
    with pytest.raises(ServerSilent, match="not signed in"):
        signed_in.beat(BEAT)


# Archives


def test_an_archive_arrives_whole(server: RenderServer, signed_in: ServerClient) -> None:
    data = os.urandom(300_000)
    server.pages["/server/download.php"] = lambda visit: visit.answer(data)

    assert hashlib.md5(download(signed_in)).digest() == hashlib.md5(data).digest()
    assert server.visits[-1].query == {"type": "job", "job": "1", "revision": "0"}


def test_a_404_means_that_the_archive_is_gone(signed_in: ServerClient) -> None:
    with pytest.raises(ArchiveGone):
        download(signed_in)


def test_half_a_download_is_no_download(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/server/download.php"] = lambda visit: visit.raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500
    )

    with pytest.raises(ServerSilent, match="broke off"):
        download(signed_in)


def test_half_a_chunk_is_no_download(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/server/download.php"] = lambda visit: visit.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 500
    )

    with pytest.raises(ServerSilent):
        download(signed_in)


def test_an_archive_above_the_limit_is_refused_before_and_while_it_arrives(
    server: RenderServer, signed_in: ServerClient
) -> None:
    server.pages["/server/download.php"] = lambda visit: visit.answer(b"x" * 300_000)
    with pytest.raises(ServerSilent, match="larger than the limit"):
        download(signed_in, limit=200_000)

    server.pages["/server/download.php"] = lambda visit: visit.raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000)
    with pytest.raises(ServerSilent, match="larger than the limit"):
        download(signed_in, limit=200_000)


def test_a_download_that_stalls_can_be_given_up(server: RenderServer, signed_in: ServerClient) -> None:
    gone, given_up = threading.Event(), threading.Event()

    def drip(visit: Visit) -> None:
        visit.raw(b"HTTP/1.1 200 OK\r\n\r\n")
        given_up.set()
        visit.drip(b"x", gone)

    server.pages["/server/download.php"] = drip

    with pytest.raises(DownloadCancelled):
        download(signed_in, cancelled=given_up.is_set)
    assert gone.wait(5)


def test_a_full_disk_is_not_the_servers_silence(server: RenderServer, signed_in: ServerClient) -> None:
    class FullDisk(io.BytesIO):
        def write(self, _data: object) -> int:
            raise OSError(28, "No space left on device")

    server.pages["/server/download.php"] = lambda visit: visit.answer(b"x" * 10)

    with pytest.raises(OSError, match="No space left"):
        signed_in.download(SCENE, FullDisk(), limit_bytes=100, cancelled=lambda: False)


# A server that misbehaves


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ("<html><body>Bad gateway</body></html>", 502, "HTTP 502"),
        ("", 408, "HTTP 408"),
        ("", 429, "HTTP 429"),
        ("", 200, "empty body"),
        ("<!DOCTYPE html><html></html>", 200, "document type"),
        ('<jobrequest status="0" />', 200, "root element"),
        ("Forbidden", 403, "HTTP 403"),
    ],
)
def test_what_is_no_answer_is_silence(
    server: RenderServer, signed_in: ServerClient, body: str, code: int, reason: str
) -> None:
    server.pages["/server/send_frame.php"] = lambda visit: visit.answer(body, code)

    with pytest.raises(ServerSilent, match=reason) as silent:
        signed_in.validate(UPLOAD, Path(__file__))
    assert silent.value.url == f"{server.url}/server/send_frame.php"


def test_an_answer_with_a_4xx_status_is_still_an_answer(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/server/request_job.php"] = lambda visit: visit.answer('<jobrequest status="202" />', 403)

    assert signed_in.request_job(JOB).status == JobStatus.SESSION_DEAD


@pytest.mark.parametrize(
    "opening",
    [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n<keepmealive"],
    ids=["status line", "header", "body"],
)
def test_a_server_that_drips_holds_nobody_longer_than_the_deadline(server: RenderServer, opening: bytes) -> None:
    gone = threading.Event()
    client = ServerClient(server.url, connect_timeout_s=2, read_timeout_s=2, answer_deadline_s=1)
    client.sign_in(SIGN_IN)

    def drip(visit: Visit) -> None:
        visit.raw(opening)
        visit.drip(b" ", gone)

    server.pages["/server/keepmealive.php"] = drip

    begun = time.monotonic()
    with pytest.raises(ServerSilent, match="no complete answer in time"):
        client.beat(BEAT)
    assert time.monotonic() - begun < 3
    assert gone.wait(5)


def test_a_cut_answer_without_a_length_is_not_taken_for_whole(server: RenderServer) -> None:
    gone = threading.Event()
    client = ServerClient(server.url, answer_deadline_s=0.5)
    client.sign_in(SIGN_IN)

    def whole_but_open(visit: Visit) -> None:
        visit.raw(b'HTTP/1.1 200 OK\r\n\r\n<keepmealive status="0"/>')
        visit.drip(b" ", gone)

    server.pages["/server/keepmealive.php"] = whole_but_open

    with pytest.raises(ServerSilent, match="in time"):
        client.beat(BEAT)


def test_an_upload_that_nobody_takes_can_be_aborted(tmp_path: Path) -> None:
    picture = tmp_path / "0001.png"
    with picture.open("wb") as file:
        os.truncate(file.fileno(), 50_000_000)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = ServerClient(f"http://127.0.0.1:{deaf.getsockname()[1]}", answer_deadline_s=0.5)
        client.thaw(frozen_for(client))

        def abort_once_connected() -> None:
            connection, _ = deaf.accept()
            client.abort()
            connection.close()

        # Progress grants time, and the buffers of the system take some MB of progress: only an abort ends it early.
        threading.Thread(target=abort_once_connected, daemon=True).start()
        with pytest.raises(ServerSilent, match="stopping"):
            client.validate(UPLOAD, picture)


def frozen_for(client: ServerClient) -> str:
    """A session at the client's own server, as it lies in the ledger."""
    root = repr(client).split("'")[1]
    paths = dict.fromkeys(
        ("validate_job", "request_job", "download_archive", "error", "keepmealive", "logout"), "/somewhere"
    )
    return f'{{"root": "{root}", "base": "{root}", "cookies": [], "endpoints": {paths}}}'.replace("'", '"')


def test_a_lost_connection_is_told_in_plain_words(server: RenderServer, signed_in: ServerClient) -> None:
    signed_in.close()
    server.stop()

    with pytest.raises(ServerSilent, match="Connection refused"):
        signed_in.request_job(JOB)


def test_heartbeats_are_repeated_and_job_requests_are_not(server: RenderServer, signed_in: ServerClient) -> None:
    def second_time(visit: Visit) -> None:
        times = sum(one.path == visit.path for one in server.visits)
        body = {"/server/keepmealive.php": "<keepmealive status='0'/>"}.get(visit.path, "<jobrequest status='200'/>")
        visit.answer(body, 503 if times == 1 else 200)

    server.pages["/server/keepmealive.php"] = server.pages["/server/request_job.php"] = second_time

    assert signed_in.beat(BEAT).status == BeatStatus.OK
    with pytest.raises(ServerSilent, match="HTTP 503"):
        signed_in.request_job(JOB)


def test_a_compressed_body_nobody_asked_for_is_not_unpacked(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/server/keepmealive.php"] = lambda visit: visit.answer(b"\x1f\x8b bomb", Content_Encoding="gzip")

    with pytest.raises(ServerSilent, match="compressed"):
        signed_in.beat(BEAT)
    assert server.visits[-1].headers["Accept-Encoding"] == "identity"


def test_an_answer_larger_than_any_message_is_not_read_to_its_end(
    server: RenderServer, signed_in: ServerClient
) -> None:
    def endless(visit: Visit) -> None:
        visit.raw(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2000):
            visit.raw(b"x" * 65536)

    server.pages["/server/keepmealive.php"] = endless

    with pytest.raises(ServerSilent, match="larger than the limit"):
        signed_in.beat(BEAT)


# Redirects and addresses


def test_a_redirected_upload_keeps_its_method_and_its_body(
    server: RenderServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda visit: visit.answer("", 301, Location="/new/place?token=1")
    server.pages["/new/place"] = lambda visit: visit.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0001.png"
    picture.write_bytes(b"a picture")

    assert signed_in.validate(UPLOAD, picture).status == ValidationStatus.OK
    assert server.visits[-1].method == "POST"
    assert b"a picture" in server.visits[-1].body


def test_redirects_in_a_circle_end(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/server/keepmealive.php"] = lambda visit: visit.answer("", 302, Location="/server/keepmealive.php")

    with pytest.raises(ServerSilent, match="redirects"):
        signed_in.beat(BEAT)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[broken", "gopher:x"])
def test_no_server_sends_us_anywhere_but_to_http(server: RenderServer, signed_in: ServerClient, address: str) -> None:
    server.pages["/server/keepmealive.php"] = lambda visit: visit.answer("", 302, Location=address)

    with pytest.raises(ServerSilent, match="names an address"):
        signed_in.beat(BEAT)


def test_endpoints_belong_to_the_host_that_the_sign_in_was_redirected_to(
    server: RenderServer, client: ServerClient
) -> None:
    other = RenderServer()
    other.pages["/server/keepmealive.php"] = lambda visit: visit.answer('<keepmealive status="0" />')
    server.pages["/server/config.php"] = lambda visit: visit.answer("", 301, Location=other.url + visit.handler.path)
    try:
        client.sign_in(SIGN_IN)
        assert client.beat(BEAT).status == BeatStatus.OK
        assert [visit.path for visit in other.visits] == ["/server/config.php", "/server/keepmealive.php"]
    finally:
        other.stop()


def test_an_endpoint_on_another_host_does_not_get_the_session_cookie(
    server: RenderServer, client: ServerClient
) -> None:
    other = RenderServer()
    elsewhere = f"http://localhost:{other.http.server_port}/files"
    other.pages["/files"] = lambda visit: visit.answer(b"archive")
    server.pages["/server/config.php"] = lambda visit: visit.answer(
        CONFIG.replace("/server/download.php", elsewhere), Set_Cookie="WORKER=42"
    )
    try:
        client.sign_in(SIGN_IN)
        assert download(client) == b"archive"
        assert other.visits[0].headers["Cookie"] is None
    finally:
        other.stop()


# TLS


@pytest.fixture
def tls_server(server: RenderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RenderServer, Path]:
    """The server behind TLS on localhost, with the certificate it shows."""
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    server.url = f"https://localhost:{server.http.server_port}"
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    return server, certificate


def self_signed(folder: Path) -> Path:
    """A key and a certificate for localhost in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "localhost.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    return path


def test_a_certificate_nobody_vouches_for_is_not_trusted(tls_server: tuple[RenderServer, Path]) -> None:
    server, _ = tls_server

    with pytest.raises(ServerSilent, match="certificate verify failed") as silent:
        ServerClient(server.url).sign_in(SIGN_IN)
    assert "s3cret" not in everything_about(silent.value)
    assert server.visits == []


def test_a_drip_inside_tls_ends_with_the_deadline(
    tls_server: tuple[RenderServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls_server
    gone = threading.Event()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    client = ServerClient(server.url, answer_deadline_s=1)
    client.sign_in(SIGN_IN)

    def drip(visit: Visit) -> None:
        visit.raw(b"HTTP/1.1 200 OK\r\n\r\n<keep")
        visit.drip(b" ", gone)

    server.pages["/server/keepmealive.php"] = drip

    with pytest.raises(ServerSilent, match="no complete answer in time"):
        client.beat(BEAT)
    assert gone.wait(5)
    client.close()


def test_a_handshake_that_drips_ends_with_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = ServerClient(f"https://127.0.0.1:{mute.getsockname()[1]}", answer_deadline_s=0.5)

        with pytest.raises(ServerSilent, match="no complete answer in time"):
            client.sign_in(SIGN_IN)


def test_nothing_leads_from_https_to_http(
    tls_server: tuple[RenderServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    client = ServerClient(server.url)
    server.pages["/server/config.php"] = lambda visit: visit.answer(
        CONFIG.replace("/server/keepmealive.php", "http://127.0.0.1:1/beat")
    )
    server.pages["/server/request_job.php"] = lambda visit: visit.answer("", 302, Location="http://127.0.0.1:1/job")
    client.sign_in(SIGN_IN)

    with pytest.raises(ServerSilent, match="leave https"):
        client.beat(BEAT)
    with pytest.raises(ServerSilent, match="leave https"):
        client.request_job(JOB)
    client.close()


def test_no_proxy_stands_between_us_and_this_machine(
    server: RenderServer, signed_in: ServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/server/keepmealive.php"] = lambda visit: visit.answer('<keepmealive status="0" />')
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert signed_in.beat(BEAT).status == BeatStatus.OK


# Cookies and sessions


def test_the_cookie_goes_back_whatever_its_name_and_in_every_thread(server: RenderServer, client: ServerClient) -> None:
    server.pages["/server/config.php"] = lambda visit: visit.answer(CONFIG, Set_Cookie="odd.name=a%20b; HttpOnly")
    server.pages["/server/keepmealive.php"] = lambda visit: visit.answer(
        '<keepmealive status="0" />', Set_Cookie=f"rotating{len(server.visits)}=1"
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

    beats = [visit for visit in server.visits if visit.path == "/server/keepmealive.php"]
    assert len(beats) == 80
    assert all("odd.name=a%20b" in visit.headers["Cookie"] for visit in beats)


def test_each_sign_in_begins_with_fresh_cookies(server: RenderServer, signed_in: ServerClient) -> None:
    signed_in.sign_in(SIGN_IN)

    assert server.visits[-1].headers["Cookie"] is None


def test_a_session_outlives_the_process(server: RenderServer, signed_in: ServerClient) -> None:
    server.pages["/server/keepmealive.php"] = lambda visit: visit.answer('<keepmealive status="0" />')
    later = ServerClient(server.url)

    later.thaw(signed_in.freeze())

    assert later.endpoints == signed_in.endpoints
    later.beat(BEAT)
    assert server.visits[-1].headers["Cookie"] == "WORKER=42"
    later.close()


@pytest.mark.parametrize("text", ["", "garbage", "[]", "{}", '{"root": "http://elsewhere/"}', '{"root": 1}'])
def test_a_remembered_session_that_cannot_be_used_is_left(client: ServerClient, text: str) -> None:
    client.thaw(text)

    assert client.endpoints is None


# The password


def everything_about(error: BaseException) -> str:
    """All a log could show: texts, contexts, tracebacks."""
    texts: list[str] = []
    following: BaseException | None = error
    while following is not None:
        texts += [repr(following), str(following), *traceback.format_exception(following), repr(vars(following))]
        following = following.__context__ or following.__cause__
    return "\n".join(texts)


def echo_of_the_password(visit: Visit) -> None:
    visit.answer(f"<config status='{PASSWORD.replace('&', '&amp;')}'/>")


BAD_SIGN_INS: dict[str, Callable[[Visit], None]] = {
    "cut off": lambda visit: visit.raw(b""),
    "half": lambda visit: visit.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<config"),
    "5xx": lambda visit: visit.answer(visit.handler.path, 500),
    "echo": lambda visit: visit.answer(visit.handler.path, 404),
    "echo in a status": echo_of_the_password,
    "circle": lambda visit: visit.answer("", 302, Location=visit.handler.path),
    "bad redirect": lambda visit: visit.answer("", 302, Location="http://[" + visit.handler.path),
    "redirect to nowhere": lambda visit: visit.answer("", 302, Location="http://127.0.0.1:1" + visit.handler.path),
    "bad header": lambda visit: visit.raw(b"HTTP/1.1 abc\r\n\r\n"),
}


@pytest.mark.parametrize("name", BAD_SIGN_INS)
def test_the_password_is_in_no_exception_and_no_log(
    server: RenderServer, client: ServerClient, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server.pages["/server/config.php"] = BAD_SIGN_INS[name]

    with pytest.raises(ServerSilent) as silent:
        client.sign_in(SIGN_IN)

    told = everything_about(silent.value) + caplog.text + repr(client) + repr(SIGN_IN)
    for secret in ("s3cret", "rd%22", "p%C3%A4ss"):
        assert secret not in told
    assert silent.value.__context__ is None


def test_the_password_is_in_no_exception_when_nobody_listens(client: ServerClient, server: RenderServer) -> None:
    server.stop()

    with pytest.raises(ServerSilent) as silent:
        client.sign_in(SIGN_IN)
    assert "s3cret" not in everything_about(silent.value)


def test_only_http_and_https_roots_are_taken() -> None:
    for root in ("ftp://host", "host", "http://"):
        with pytest.raises(ValueError, match="root URL"):
            ServerClient(root)
