"""TLS and plain HTTP at one port, with clients that break off, drip, or come from elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.runtime.http_server import UvicornThread
from sheepfold.serving.connection_limits import ConnectionLimits, ConnectionRules
from sheepfold.serving.tls_or_plain import TlsOrPlain, TlsRules, is_same_machine
from sheepfold.tls.certificates import (
    COORDINATOR_NAME,
    Authority,
    coordinator_certificate,
    new_authority,
    new_key,
)
from sheepfold.tls.contexts import TlsFiles, client_context, server_context

RULES = ConnectionRules(head_s=1.0, behind_s=1.0, slowest_bytes_per_s=1000, waiting_per_address=20, per_address=60)
#: A connection that has to be cut off is, within this time (seconds).
CUT_WITHIN_S = 15.0
LARGE = 16 * 1024 * 1024
#: Begins a TLS record of a handshake, of which nothing more comes.
HALF_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says how it was reached and how much came; ``/large`` answers more than any buffer holds."""
    received, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        received, more = received + len(message.get("body", b"")), message.get("more_body", False)
    text = b"%s %d" % (scope["scheme"].encode(), received)
    body = b"k" * LARGE if scope["path"] == "/large" else text
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder, now = tmp_path_factory.mktemp("tls"), datetime.datetime.now(datetime.UTC)
    ca_key, key = new_key(), new_key()
    authority = Authority(certificate=new_authority(ca_key, now), key=ca_key)
    made = TlsFiles(authority=folder / "ca.pem", certificate=folder / "cert.pem", key=folder / "key.pem")
    made.authority.write_bytes(authority.certificate)
    made.certificate.write_bytes(coordinator_certificate(authority, key, [], now))
    made.key.write_bytes(key)
    return made


@pytest.fixture
def port(files: TlsFiles) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = server_context(files)
    rules = TlsRules(context=lambda: context)
    server = UvicornThread(app, "127.0.0.1", port, rules=RULES, tls=rules).bind().start()
    yield port
    server.stop()


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


@contextlib.contextmanager
def secured(port: int, authority: Path) -> Iterator[ssl.SSLSocket]:
    with connected(port) as plain:
        yield client_context(authority.read_bytes()).wrap_socket(plain, server_hostname=COORDINATOR_NAME)


def seconds_until_cut(client: socket.socket, drip: bytes = b"") -> float:
    """How long the server bears it; ``drip`` is sent again and again meanwhile."""
    began = time.monotonic()
    client.settimeout(0.1)
    while time.monotonic() < began + CUT_WITHIN_S:
        with contextlib.suppress(TimeoutError):
            try:
                if drip:
                    client.sendall(drip)
                if not client.recv(65_536):
                    return time.monotonic() - began
            except (ConnectionError, ssl.SSLEOFError):
                return time.monotonic() - began
    raise AssertionError(f"still connected after {CUT_WITHIN_S:.0f} s")


def answer_of(client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    got = b""
    while b"\r\n\r\n" not in got or not got.partition(b"\r\n\r\n")[2]:
        got += client.recv(65_536)
    return got.partition(b"\r\n\r\n")[2]


def test_one_port_speaks_both_and_says_which(port: int, files: TlsFiles) -> None:
    with connected(port) as plain:
        assert answer_of(plain, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b"http 0"
        assert answer_of(plain, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b"http 0"
    with secured(port, files.authority) as client:
        assert client.version() == "TLSv1.3"
        assert answer_of(client, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b"https 0"
        assert answer_of(client, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == b"https 0"


def test_large_bodies_and_answers_pass_through_tls_unharmed(port: int, files: TlsFiles) -> None:
    with secured(port, files.authority) as client:
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % LARGE
        assert answer_of(client, head + bytes(LARGE)) == b"https %d" % LARGE
        client.sendall(b"GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        got = b"".join(iter(lambda: client.recv(1024 * 1024), b""))
        assert got.partition(b"\r\n\r\n")[2] == b"k" * LARGE


@pytest.mark.parametrize("begun", [b"", HALF_HANDSHAKE])
def test_half_a_handshake_is_cut_off(port: int, begun: bytes) -> None:
    with connected(port) as client:
        client.sendall(begun)
        assert seconds_until_cut(client) >= RULES.head_s * 0.9


def test_a_handshake_that_drips_is_cut_off(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"\x16\x03\x01\x40\x00")
        assert seconds_until_cut(client, b"\x00") >= RULES.head_s * 0.9


def test_the_head_after_a_handshake_has_what_is_left_of_the_time(port: int, files: TlsFiles) -> None:
    with secured(port, files.authority) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert seconds_until_cut(client, b"x") >= RULES.head_s * 0.5


def test_handshakes_count_among_the_connections_of_an_address(port: int) -> None:
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connected(port)) for _ in range(RULES.per_address)]
        for client in waiting:
            client.sendall(HALF_HANDSHAKE)
        one_too_many = stack.enter_context(connected(port))
        one_too_many.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert one_too_many.recv(1000).startswith(b"HTTP/1.1 200"), "it takes the place of the one that waited longest"
        with contextlib.suppress(ConnectionError):
            assert waiting[0].recv(1000) == b""


def test_an_answer_over_tls_that_nobody_reads_is_cut_off(port: int, files: TlsFiles) -> None:
    with secured(port, files.authority) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        time.sleep(2 * RULES.behind_s + 3)  # nobody reads meanwhile; a cut cannot be seen without reading
        received = 0
        with contextlib.suppress(ConnectionError):
            received = sum(len(chunk) for chunk in iter(lambda: client.recv(1024 * 1024), b""))
    assert received < LARGE


def forgotten_after(files: TlsFiles, *said: bytes) -> int:
    """Connections that the limits still count once a client, whose handshake failed, is gone."""
    context, limits = server_context(files), ConnectionLimits(RULES)

    async def talk() -> int:
        loop, rules = asyncio.get_running_loop(), TlsRules(context=lambda: context)
        server = await loop.create_server(lambda: TlsOrPlain(asyncio.Protocol, rules, limits), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        for piece in said:
            writer.write(piece)
            await writer.drain()
        if said:
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 10)
        else:
            while not len(limits):
                await asyncio.sleep(0)
        writer.close()
        async with asyncio.timeout(10):
            while len(limits):
                await asyncio.sleep(0.01)
        server.close()
        return len(limits)

    return asyncio.run(talk())


@pytest.mark.parametrize("said", [(), (b"\x16\x03\x01\x00\x05hello" + bytes(20),), (HALF_HANDSHAKE,)])
def test_whoever_fails_is_forgotten(files: TlsFiles, said: tuple[bytes, ...]) -> None:
    assert forgotten_after(files, *said) == 0


class FakeTransport(asyncio.Transport):
    """From elsewhere, and remembers what it was told."""

    def __init__(self, peer: tuple[Any, ...], own: tuple[Any, ...]) -> None:
        super().__init__({"peername": peer, "sockname": own})
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Taken(asyncio.Protocol):
    """A protocol that was reached."""

    data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


@pytest.mark.parametrize("plain_everywhere", [False, True])
def test_plain_http_from_elsewhere_is_answered_only_where_the_operator_says_so(plain_everywhere: bool) -> None:
    async def talk() -> FakeTransport:
        transport = FakeTransport(("192.168.1.9", 4000), ("192.168.1.10", 8420))
        rules = TlsRules(context=ssl.create_default_context, plain_everywhere=plain_everywhere)
        opening = TlsOrPlain(Taken, rules, ConnectionLimits(RULES))
        opening.connection_made(transport)
        opening.data_received(b"POST /api/join HTTP/1.1\r\n")
        return transport

    transport = asyncio.run(talk())
    if plain_everywhere:
        assert isinstance(transport.protocol, Taken)
        assert transport.protocol.data == b"POST /api/join HTTP/1.1\r\n"
    else:
        assert transport.written.startswith(b"HTTP/1.1 403 ")
        assert b"use https" in transport.written
        assert transport.closed


@pytest.mark.parametrize(
    ("peer", "own", "is_here"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.4.4.4", "192.168.1.10", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("192.168.1.10", "192.168.1.10", True),
        ("192.168.1.9", "192.168.1.10", False),
        ("::ffff:192.168.1.9", "::ffff:192.168.1.10", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("no address", "127.0.0.1", False),
    ],
)
def test_this_machine_is_told_from_others(peer: str, own: str, is_here: bool) -> None:
    assert is_same_machine(FakeTransport((peer, 1), (own, 2))) is is_here
