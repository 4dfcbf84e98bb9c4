"""Requests a second that the lab server answers while clients drip, against its twin."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.servers import slow_clients
from tests.support.servers.running_lab import RunningLab, running_lab
from tests.support.servers.slow_clients import Steps, compare, connect, dripping

#: Requests under one attack.
REQUESTS = 300


def half_heads(port: int) -> AbstractContextManager[None]:
    """1,200 connections send the first half of a request."""
    return slow_clients.half_heads(port)


@contextmanager
def dripping_reports(port: int) -> Iterator[None]:
    """200 error reports without a session: 20 kB at once, then a byte now and then."""
    head = (
        b"POST /server/error.php?job=1&frame=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    )
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(200)]
        for client in clients:
            with suppress(OSError):  # on a slow machine it is cut off before it has begun
                client.sendall(head + bytes(20_000))
        stack.enter_context(dripping(clients, every_s=0.5))
        yield


def asking(lab: RunningLab) -> Steps:
    """One client asks again and again."""
    client = http.client.HTTPConnection("127.0.0.1", port_of(lab), timeout=10)

    def ask() -> None:
        client.request("GET", "/healthz")
        answer = client.getresponse()
        assert answer.status == 200
        answer.read()

    return [ask] * REQUESTS


def port_of(lab: RunningLab) -> int:
    return urlsplit(lab.url).port or 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("attack", [half_heads, dripping_reports])
def test_the_lab_server_goes_on(
    lab: RunningLab, tmp_path: Path, attack: Callable[[int], AbstractContextManager[None]]
) -> None:
    (tmp_path / "twin").mkdir()
    with running_lab(tmp_path / "twin") as twin:
        for server in (lab, twin):
            server.project()
        at_twin, at_lab = asking(twin), asking(lab)
        compare(lambda: at_twin, lambda: at_lab, lambda: attack(port_of(lab))).check()
