"""Slow and hostile clients at a real server with short deadlines."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.runtime.http_server import UvicornThread
from sheepfold.serving.connection_limits import ConnectionRules

RULES = ConnectionRules(head_s=1.0, behind_s=1.0, rest_s=2.0, slowest_bytes_per_s=1000, waiting_per_address=20)
HEAD = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
#: A connection that has to be cut off is, within this time (seconds): deadlines of 2 s, two looks, a slow machine.
CUT_WITHIN_S = 15.0


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, or not for ``/early``; ``/large`` answers more than any buffer holds."""
    more = scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
    size = 64 * 1024 * 1024 if scope["path"] == "/large" else 2
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    for _ in range(max(1, size // (1024 * 1024))):
        await send({"type": "http.response.body", "body": b"k" * min(size, 1024 * 1024), "more_body": size > 2})
    if size > 2:
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = UvicornThread(app, "127.0.0.1", port, rules=RULES).bind().start()
    yield port
    server.stop()


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def wait_until_cut(client: socket.socket, drip: bytes = b"") -> None:
    """Returns when the server has cut the client off; ``drip`` is sent again and again meanwhile."""
    client.settimeout(0.1)
    deadline = time.monotonic() + CUT_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            try:
                if drip:
                    client.sendall(drip)
                if not client.recv(65_536):
                    return
            except ConnectionError:
                return
    raise AssertionError(f"still connected after {CUT_WITHIN_S:.0f} s")


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nX: "])
def test_half_a_head_is_cut_off(port: int, begun: bytes) -> None:
    began = time.monotonic()  # the server counts from the connection on, or later
    with connected(port) as client:
        client.sendall(begun)
        wait_until_cut(client)
    assert time.monotonic() - began >= RULES.head_s


def test_a_head_that_drips_is_cut_off(port: int) -> None:
    began = time.monotonic()  # the server counts from the connection on, or later
    with connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        wait_until_cut(client, b"x")
    assert time.monotonic() - began >= RULES.head_s


def test_the_second_request_of_a_connection_has_the_same_deadline(port: int) -> None:
    began = time.monotonic()
    with connected(port) as client:
        client.sendall(HEAD % (b"", 0))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.sendall(b"\r\n")  # ends uvicorn's own wait for the next request
        wait_until_cut(client)
    assert time.monotonic() - began >= RULES.head_s


@pytest.mark.parametrize("flood", [b"X-Many: 1\r\n", b"x" * 1000])
def test_a_head_without_an_end_is_cut_off(port: int, flood: bytes) -> None:
    with connected(port) as client, contextlib.suppress(ConnectionError, TimeoutError):
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(10 * RULES.head_bytes // len(flood)):
            client.sendall(flood)
        assert client.recv(1000) == b""


def test_a_body_that_drips_is_cut_off(port: int) -> None:
    began = time.monotonic()  # the server counts from the connection on, or later
    with connected(port) as client:
        client.sendall(HEAD % (b"", 1_000_000))
        wait_until_cut(client, b"x")
    assert time.monotonic() - began >= RULES.behind_s


def test_a_body_at_a_decent_pace_arrives_although_it_takes_longer_than_every_deadline(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD % (b"", 5 * 5_000))
        for _ in range(25):
            client.sendall(b"x" * 1_000)
            time.sleep(0.2)  # the pace is what is tried here
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_body_that_is_answered_already_is_not_waited_for(port: int) -> None:
    began = time.monotonic()  # the server counts from the connection on, or later
    with connected(port) as client:
        client.sendall(HEAD % (b"early", 10**9))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        wait_until_cut(client, b"x" * 10_000)
    assert time.monotonic() - began >= 1.0


def test_an_answer_that_nobody_reads_is_cut_off(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD % (b"large", 0))
        time.sleep(2 * RULES.behind_s + 3)  # nobody reads meanwhile; a cut cannot be seen without reading
        chunks = iter(lambda: client.recv(1024 * 1024), b"")
        with pytest.raises(ConnectionError):
            list(chunks)


def test_an_answer_that_is_read_slowly_but_steadily_arrives_whole(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD % (b"large", 0))
        got = 0
        while got < 64 * 1024 * 1024:
            got += len(client.recv(1024 * 1024))
            time.sleep(0.02)


def test_a_pipelined_request_is_answered(port: int) -> None:
    with connected(port) as client:
        client.sendall(2 * (HEAD % (b"", 2) + b"ab"))
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 2:
            answers += client.recv(1000)
