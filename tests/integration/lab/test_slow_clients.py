"""Requests a second that the lab server answers while clients drip, against before, in one run."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import psutil
import pytest

from sheepfold.serving.file_limit import raise_file_limit
from tests.support.dripping import dripping
from tests.support.servers.running_lab import RunningLab

TOKEN, MD5 = "f4" * 24, "ab" * 16
#: Requests of one measurement, and the best of so many tries, an attack each: the machine does other things, too.
REQUESTS, TRIES, AT_LEAST = 1000, 4, 0.9
MORE_MEMORY = 64 * 1024 * 1024


@contextmanager
def half_sent_requests(port: int) -> Iterator[None]:
    """1,200 connections send the first half of a request."""
    with ExitStack() as stack:
        for _ in range(1200):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            with suppress(OSError):  # one connection too many is cut off at once
                client.sendall(b"GET /archives/x HTTP/1.1\r\nHost: x\r\nX-Half: ")
        yield


@contextmanager
def dripping_reports(port: int) -> Iterator[None]:
    """200 error reports without a session: 20 kB at once, then a byte now and then."""
    head = (
        b"POST /server/error.php?job=1&frame=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    )
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(200)]
        for client in clients:
            client.sendall(head + bytes(20_000))
        with dripping(clients, 0.5):
            yield


def per_second(port: int, path: str, headers: dict[str, str]) -> float:
    """Asked from another address than the attack comes from: an address has only so many connections."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=("127.0.0.9", 0))
    began = time.monotonic()
    for _ in range(REQUESTS):
        client.request("GET", path, headers=headers)
        answer = client.getresponse()
        assert answer.status in (200, 206)
        answer.read()
    passed_s = time.monotonic() - began
    client.close()
    return REQUESTS / passed_s


def check_that_downloads_go_on(port: int, path: str, headers: dict[str, str], attack: Callable[[int], object]) -> None:
    raise_file_limit()
    ratios, process = list[float](), psutil.Process()
    per_second(port, path, headers)
    before_bytes = process.memory_info().rss
    while len(ratios) < TRIES and max(ratios, default=0.0) < AT_LEAST:
        before = per_second(port, path, headers)
        with ExitStack() as stack:
            stack.enter_context(attack(port))  # pyright: ignore[reportArgumentType]
            ratios.append(per_second(port, path, headers) / before)
            grown = process.memory_info().rss - before_bytes
    print(f"{before:.0f} requests/s before, ratios {[f'{ratio:.2f}' for ratio in ratios]}, {grown / 1e6:.0f} MB more")
    assert max(ratios) >= AT_LEAST
    assert grown < MORE_MEMORY


@pytest.mark.parametrize("attack", [half_sent_requests, dripping_reports])
def test_the_lab_server_goes_on(lab: RunningLab, attack: Callable[[int], object]) -> None:
    lab.project()
    check_that_downloads_go_on(urlsplit(lab.url).port or 0, "/healthz", {}, attack)
