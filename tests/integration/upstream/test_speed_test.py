"""Speed tests against real servers: measured, bounded, and never of addresses that are nobody's business."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.upstream.client import ServerClient
from coordinator.upstream.errors import ServerSilent
from coordinator.upstream.exchanges import speed_test
from coordinator.upstream.exchanges.speed_test import MAX_TARGETS, MOST_BYTES, MOST_S, SpeedTests
from sheepfold.protocol.dialects import dialect_of
from sheepfold.protocol.reading_requests import read_speed_test_report
from sheepfold.protocol.session_messages import SpeedTestResult
from tests.support.servers.misbehaving_server import SIGN_IN, MisbehavingServer, ReceivedRequest

KINDS = ("request-job", "keepmealive", "download-archive", "speedtest-answer")
CONFIG = '<config status="0">' + "".join(f'<request type="{kind}" path="/{kind}"/>' for kind in KINDS) + "</config>"
BIG = bytes(1024 * 1024)


@pytest.fixture
def signed_in(server: MisbehavingServer) -> ServerClient:
    server.pages["/server/config.php"] = lambda request: request.answer(CONFIG)
    server.pages["/speedtest-answer"] = lambda request: request.answer("")
    client = ServerClient(server.url, dialect=dialect_of(2022))
    client.sign_in(SIGN_IN)
    return client


def reported_results(server: MisbehavingServer) -> tuple[SpeedTestResult, ...]:
    [request] = [request for request in server.received if request.path == "/speedtest-answer"]
    assert (request.method, request.headers["Content-Type"]) == ("POST", "application/xml; charset=utf-8")
    return read_speed_test_report(request.body)


def times_fetched(server: MisbehavingServer, path: str) -> int:
    return sum(request.path == path for request in server.received)


class LineClock:
    """Moved by the server, which waits until the client has looked at it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._was_read = threading.Event()

    def __call__(self) -> float:
        self._was_read.set()
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self._was_read.clear()

    def wait_until_read(self) -> None:
        assert self._was_read.wait(10), "nothing arrived"


def test_each_address_is_measured_and_told(server: MisbehavingServer, signed_in: ServerClient) -> None:
    clock = LineClock()

    def fast(request: ReceivedRequest) -> None:
        clock.pass_by(0.125)
        request.answer(BIG)

    def slow(request: ReceivedRequest) -> None:
        clock.pass_by(0.25)
        request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(100_000))
        clock.wait_until_read()
        clock.pass_by(0.5)
        request.raw(bytes(100_000))

    server.pages |= {"/fast": fast, "/slow": slow}
    fast_url, slow_url, gone = (f"{server.url}/{name}" for name in ("fast", "slow", "gone"))
    signed_in.run_speed_test(SpeedTests(clock), (fast_url, slow_url, gone))
    results = {result.url: result for result in reported_results(server)}
    assert results[fast_url] == SpeedTestResult(url=fast_url, speed=8 * len(BIG), ping_ms=125), "no time between"
    assert results[slow_url] == SpeedTestResult(url=slow_url, speed=400_000, ping_ms=250), "200 kB in half a second"
    assert results[gone] == SpeedTestResult(url=gone, speed=0, ping_ms=0)
    assert signed_in.network_down == results[fast_url].speed


def test_an_endless_address_is_left_after_so_many_bytes_and_a_dripping_one_after_so_many_seconds(
    server: MisbehavingServer, signed_in: ServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_test, "MOST_S", 1.0)
    sent = 0

    def endless(request: ReceivedRequest) -> None:
        nonlocal sent
        request.raw(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(200):
            request.raw(BIG)
            sent += len(BIG)

    def dripping(request: ReceivedRequest) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100):
            request.raw(bytes(speed_test.PIECE_BYTES))
            time.sleep(0.1)

    server.pages |= {"/endless": endless, "/dripping": dripping}
    begun = time.monotonic()
    signed_in.run_speed_test(SpeedTests(), (f"{server.url}/endless", f"{server.url}/dripping"))
    assert time.monotonic() - begun < 4
    assert sent < 4 * MOST_BYTES, "what the system's buffers took"
    endlessly, drips = reported_results(server)
    assert endlessly.speed > 1_000_000
    assert 20_000 < drips.speed < 60_000, "4 kB every tenth of a second"


def test_what_came_of_a_line_that_stalls_is_counted(
    server: MisbehavingServer, signed_in: ServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_test, "MOST_S", 0.4)

    def stalls(request: ReceivedRequest) -> None:
        request.raw(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(40_000))
        time.sleep(3)

    server.pages["/stalls"] = stalls
    signed_in.run_speed_test(SpeedTests(), (f"{server.url}/stalls",))
    [result] = reported_results(server)
    assert result.speed > 0


def test_only_so_many_addresses_are_looked_at_and_each_once_an_hour_for_all_sessions(
    server: MisbehavingServer, signed_in: ServerClient
) -> None:
    now = 0.0
    server.pages |= {f"/{number}": lambda request: request.answer(b"x") for number in range(20)}
    targets = tuple(f"{server.url}/{number}" for number in range(20))
    tests = SpeedTests(clock=lambda: now)
    for _ in range(3):
        signed_in.run_speed_test(tests, targets)
    assert [times_fetched(server, f"/{number}") for number in range(20)] == [1] * MAX_TARGETS + [0] * (20 - MAX_TARGETS)
    now = 4000.0
    signed_in.run_speed_test(tests, targets)
    assert times_fetched(server, "/0") == 2


def test_a_server_that_asks_for_no_test_or_takes_no_answer_is_told_nothing(
    server: MisbehavingServer, signed_in: ServerClient
) -> None:
    signed_in.run_speed_test(SpeedTests(), ())
    server.pages["/server/config.php"] = lambda request: request.answer(CONFIG.replace("speedtest-answer", "other"))
    signed_in.sign_in(SIGN_IN)
    signed_in.run_speed_test(SpeedTests(), (f"{server.url}/fast",))
    assert times_fetched(server, "/speedtest-answer") == times_fetched(server, "/fast") == 0


def test_nobody_is_hurt_by_a_server_that_does_not_listen(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages |= {
        "/fast": lambda request: request.answer(b"x"),
        "/speedtest-answer": lambda request: request.raw(b""),
    }
    with pytest.raises(ServerSilent):
        signed_in.run_speed_test(SpeedTests(), (f"{server.url}/fast",))
    SpeedTests().run_for(signed_in, (f"{server.url}/fast",))


# Where a test may lead

#: What names are found as; the server itself is one on the internet.
FOUND = {"render.example": "93.184.215.14", "inside.example": "192.168.1.7", "mapped.example": "::ffff:10.0.0.1"}


@pytest.fixture
def resolve_host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def found(host: str, port: object, *_args: object, **_kwargs: object) -> list[Any]:
        address = FOUND.get(host, host)
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise OSError("no such host") from None
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return found


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/fast",
        "http://192.168.1.1/",
        "http://10.1.2.3/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:{port}/fast",
        "http://inside.example/",
        "http://mapped.example/",
        "http://nowhere.example/",
        "file:///etc/passwd",
        "ftp://93.184.215.14/",
    ],
)
@pytest.mark.usefixtures("resolve_host")
def test_a_server_on_the_internet_cannot_make_us_look_at_this_network(server: MisbehavingServer, address: str) -> None:
    server.pages["/fast"] = lambda request: request.answer(b"x")
    exchanges = ServerClient("http://render.example/")._exchanges
    url = address.format(port=server.http.server_port)
    result = speed_test._measured(exchanges, "http://render.example/", url, time.monotonic)
    assert result == SpeedTestResult(url=url, speed=0, ping_ms=0)
    assert not server.received


def test_a_server_on_this_network_may_ask_about_it(server: MisbehavingServer, signed_in: ServerClient) -> None:
    server.pages["/fast"] = lambda request: request.answer(b"x" * 100)
    signed_in.run_speed_test(SpeedTests(), (f"{server.url}/fast",))
    [result] = reported_results(server)
    assert result.speed > 0


def test_the_seconds_are_few() -> None:
    assert MAX_TARGETS * 2 * MOST_S <= 40
