"""The server client against a server that breaks off, drips, leads astray, and has bad certificates."""

from __future__ import annotations

import datetime
import json
import logging
import os
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from coordinator.upstream.client import ServerClient
from coordinator.upstream.errors import BadAnswer, ServerSilent
from sheepfold.protocol.status import BeatStatus, JobStatus, ValidationStatus
from tests.support.servers.misbehaving_server import (
    BEAT,
    CONFIG,
    JOB,
    SIGN_IN,
    UPLOAD,
    MisbehavingServer,
    ReceivedRequest,
    download,
    everything_about,
)

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
    server: MisbehavingServer, signed_in: ServerClient, body: str, code: int, reason: str
) -> None:
    server.pages["/server/send_frame.php"] = lambda request: request.answer(body, code)

    with pytest.raises(ServerSilent, match=reason) as silent:
        signed_in.validate(UPLOAD, Path(__file__))
    assert silent.value.url == f"{server.url}/server/send_frame.php"


@pytest.mark.parametrize(
    ("body", "code", "is_there"),
    [
        ("<html>", 200, True),
        ("", 400, True),
        ("", 403, True),
        ("", 404, True),
        ("", 500, True),
        ("", 408, False),
        ("", 429, False),
        ("", 502, False),
        ("", 503, False),
        ("", 504, False),
    ],
)
def test_a_server_that_says_something_is_told_from_one_that_is_not_there(
    server: MisbehavingServer, signed_in: ServerClient, body: str, code: int, is_there: bool
) -> None:
    server.pages["/server/send_frame.php"] = lambda request: request.answer(body, code)

    with pytest.raises(ServerSilent) as silent:
        signed_in.validate(UPLOAD, Path(__file__))
    assert isinstance(silent.value, BadAnswer) == is_there
    if isinstance(silent.value, BadAnswer):
        assert silent.value.code == code


def test_an_answer_with_a_4xx_status_is_still_an_answer(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages["/server/request_job.php"] = lambda request: request.answer('<jobrequest status="202" />', 403)

    assert signed_in.request_job(JOB).status == JobStatus.SESSION_DEAD


@pytest.mark.parametrize(
    "opening",
    [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n<keepmealive"],
    ids=["status line", "header", "body"],
)
def test_a_server_that_drips_holds_nobody_longer_than_the_deadline(server: MisbehavingServer, opening: bytes) -> None:
    gone = threading.Event()
    client = ServerClient(server.url, connect_timeout_s=2, read_timeout_s=2, answer_deadline_s=1)
    client.sign_in(SIGN_IN)

    def drip(request: ReceivedRequest) -> None:
        request.raw(opening)
        request.drip(b" ", gone)

    server.pages["/server/keepmealive.php"] = drip

    begun = time.monotonic()
    with pytest.raises(ServerSilent, match="no complete answer in time"):
        client.beat(BEAT)
    assert time.monotonic() - begun < 3
    assert gone.wait(5)


def test_a_cut_answer_without_a_length_is_not_taken_for_whole(server: MisbehavingServer) -> None:
    gone = threading.Event()
    client = ServerClient(server.url, answer_deadline_s=0.5)
    client.sign_in(SIGN_IN)

    def whole_but_open(request: ReceivedRequest) -> None:
        request.raw(b'HTTP/1.1 200 OK\r\n\r\n<keepmealive status="0"/>')
        request.drip(b" ", gone)

    server.pages["/server/keepmealive.php"] = whole_but_open

    with pytest.raises(ServerSilent, match="in time"):
        client.beat(BEAT)


def test_an_upload_that_nobody_takes_can_be_aborted(tmp_path: Path) -> None:
    picture = tmp_path / "0001.png"
    with picture.open("wb") as file:
        os.truncate(file.fileno(), 50_000_000)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = ServerClient(f"http://127.0.0.1:{deaf.getsockname()[1]}", answer_deadline_s=0.5)
        client.thaw(saved_session_of(client))

        def abort_once_connected() -> None:
            connection, _ = deaf.accept()
            client.abort()
            connection.close()

        # Progress grants time, and the buffers of the system take some MB of progress: only an abort ends it early.
        threading.Thread(target=abort_once_connected, daemon=True).start()
        with pytest.raises(ServerSilent, match="stopping"):
            client.validate(UPLOAD, picture)


def saved_session_of(client: ServerClient) -> str:
    """A session at the client's own server, as it lies in the ledger."""
    root = repr(client).split("'")[1]
    names = ("validate_job", "request_job", "download_archive", "error", "keepmealive", "logout")
    session = {"base": root, "cookies": [], "endpoints": dict.fromkeys(names, "/somewhere"), "dialect": 2015}
    return json.dumps({"root": root, "key": None, "session": session})


def test_a_lost_connection_is_told_in_plain_words(server: MisbehavingServer, signed_in: ServerClient) -> None:
    signed_in.close()
    server.stop()

    with pytest.raises(ServerSilent, match="Connection refused"):
        signed_in.request_job(JOB)


def test_heartbeats_are_repeated_and_job_requests_are_not(server: MisbehavingServer, signed_in: ServerClient) -> None:
    def second_time(request: ReceivedRequest) -> None:
        times = sum(seen.path == request.path for seen in server.received)
        body = {"/server/keepmealive.php": "<keepmealive status='0'/>"}.get(request.path, "<jobrequest status='200'/>")
        request.answer(body, 503 if times == 1 else 200)

    server.pages["/server/keepmealive.php"] = server.pages["/server/request_job.php"] = second_time

    assert signed_in.beat(BEAT).status == BeatStatus.OK
    with pytest.raises(ServerSilent, match="HTTP 503"):
        signed_in.request_job(JOB)


def test_a_compressed_body_nobody_asked_for_is_not_unpacked(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages["/server/keepmealive.php"] = lambda request: request.answer(b"\x1f\x8b bomb", Content_Encoding="gzip")

    with pytest.raises(ServerSilent, match="compressed"):
        signed_in.beat(BEAT)
    assert server.received[-1].headers["Accept-Encoding"] == "identity"


def test_an_answer_larger_than_any_message_is_not_read_to_its_end(
    server: MisbehavingServer, signed_in: ServerClient
) -> None:
    def endless(request: ReceivedRequest) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2000):
            request.raw(b"x" * 65536)

    server.pages["/server/keepmealive.php"] = endless

    with pytest.raises(ServerSilent, match="larger than the limit"):
        signed_in.beat(BEAT)


# Redirects and addresses


def test_a_redirected_upload_keeps_its_method_and_its_body(
    server: MisbehavingServer, signed_in: ServerClient, tmp_path: Path
) -> None:
    server.pages["/server/send_frame.php"] = lambda request: request.answer("", 301, Location="/new/place?token=1")
    server.pages["/new/place"] = lambda request: request.answer('<jobvalidate status="0" />')
    picture = tmp_path / "0001.png"
    picture.write_bytes(b"a picture")

    assert signed_in.validate(UPLOAD, picture).status == ValidationStatus.OK
    assert server.received[-1].method == "POST"
    assert b"a picture" in server.received[-1].body


def test_redirects_in_a_circle_end(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages["/server/keepmealive.php"] = lambda request: request.answer(
        "", 302, Location="/server/keepmealive.php"
    )

    with pytest.raises(ServerSilent, match="redirects"):
        signed_in.beat(BEAT)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[broken", "gopher:x"])
def test_no_server_sends_us_anywhere_but_to_http(
    server: MisbehavingServer, signed_in: ServerClient, address: str
) -> None:
    server.pages["/server/keepmealive.php"] = lambda request: request.answer("", 302, Location=address)

    with pytest.raises(ServerSilent, match="names an address"):
        signed_in.beat(BEAT)


def test_endpoints_belong_to_the_host_that_the_sign_in_was_redirected_to(
    server: MisbehavingServer, client: ServerClient
) -> None:
    other = MisbehavingServer()
    other.pages["/server/keepmealive.php"] = lambda request: request.answer('<keepmealive status="0" />')
    server.pages["/server/config.php"] = lambda request: request.answer(
        "", 301, Location=other.url + request.handler.path
    )
    try:
        client.sign_in(SIGN_IN)
        assert client.beat(BEAT).status == BeatStatus.OK
        assert [request.path for request in other.received] == ["/server/config.php", "/server/keepmealive.php"]
    finally:
        other.stop()


def test_an_endpoint_on_another_host_does_not_get_the_session_cookie(
    server: MisbehavingServer, client: ServerClient
) -> None:
    other = MisbehavingServer()
    elsewhere = f"http://localhost:{other.http.server_port}/files"
    other.pages["/files"] = lambda request: request.answer(b"archive")
    server.pages["/server/config.php"] = lambda request: request.answer(
        CONFIG.replace("/server/download.php", elsewhere), Set_Cookie="WORKER=42"
    )
    try:
        client.sign_in(SIGN_IN)
        assert download(client) == b"archive"
        assert other.received[0].headers["Cookie"] is None
    finally:
        other.stop()


# TLS


@pytest.fixture
def tls_server(
    server: MisbehavingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[MisbehavingServer, Path]:
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


def test_a_certificate_nobody_vouches_for_is_not_trusted(tls_server: tuple[MisbehavingServer, Path]) -> None:
    server, _ = tls_server

    with pytest.raises(ServerSilent, match="certificate verify failed") as silent:
        ServerClient(server.url).sign_in(SIGN_IN)
    assert "s3cret" not in everything_about(silent.value)
    assert server.received == []


def test_a_drip_inside_tls_ends_with_the_deadline(
    tls_server: tuple[MisbehavingServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls_server
    gone = threading.Event()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    client = ServerClient(server.url, answer_deadline_s=1)
    client.sign_in(SIGN_IN)

    def drip(request: ReceivedRequest) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\n\r\n<keep")
        request.drip(b" ", gone)

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
    tls_server: tuple[MisbehavingServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    client = ServerClient(server.url)
    server.pages["/server/config.php"] = lambda request: request.answer(
        CONFIG.replace("/server/keepmealive.php", "http://127.0.0.1:1/beat")
    )
    server.pages["/server/request_job.php"] = lambda request: request.answer("", 302, Location="http://127.0.0.1:1/job")
    client.sign_in(SIGN_IN)

    with pytest.raises(ServerSilent, match="leave https"):
        client.beat(BEAT)
    with pytest.raises(ServerSilent, match="leave https"):
        client.request_job(JOB)
    client.close()


def test_an_offers_own_address_does_not_lead_from_https_to_http_and_its_query_is_told_to_nobody(
    tls_server: tuple[MisbehavingServer, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, certificate = tls_server
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    caplog.set_level(logging.DEBUG)
    client = ServerClient(server.url)
    client.sign_in(SIGN_IN)
    server.pages["/frame"] = lambda request: request.answer(
        "", 302, Location="http://127.0.0.1:1" + request.handler.path
    )

    for address in ("http://127.0.0.1:1/frame?token=t0psecret", f"{server.url}/frame?token=t0psecret"):
        with pytest.raises(BadAnswer, match="leave https") as silent:
            client.validate(UPLOAD, Path(__file__), address)
        assert "t0psecret" not in everything_about(silent.value) + caplog.text
    client.close()


def test_no_proxy_stands_between_us_and_this_machine(
    server: MisbehavingServer, signed_in: ServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/server/keepmealive.php"] = lambda request: request.answer('<keepmealive status="0" />')
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert signed_in.beat(BEAT).status == BeatStatus.OK
