"""A server on the internet that points into this network, over real HTTP; names are found as the test says."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from coordinator.upstream.client import ServerClient
from coordinator.upstream.errors import ServerSilent
from coordinator.upstream.transport import inward
from sheepfold.protocol.messages import ArchiveRequest, Beat, JobRequest
from tests.support.servers.misbehaving_server import SIGN_IN

#: Where the server on the internet listens, and the router: the first counts as an address of the internet here.
OUTSIDE, INSIDE = "127.0.0.2", "127.0.0.1"
REBOOT = "/router/reboot"


class Listener:
    """Answers what its pages say, and notes what it is asked."""

    def __init__(self, address: str) -> None:
        self.asked: list[str] = []
        self.pages: dict[str, tuple[int, dict[str, str], str]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.asked.append(path)
                status, headers, body = outer.pages.get(path, (200, {}, ""))
                self.send_response(status)
                for name, value in {"Content-Type": "text/xml", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_arguments: object) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class FakeResolver:
    """What names are found as, and how often each was looked up."""

    def __init__(self) -> None:
        self.found: dict[str, Callable[[int], str]] = {}
        self.looked_up: dict[str, int] = {}

    def __call__(self, host: str, port: object, *_args: object, **_kwargs: object) -> list[Any]:
        self.looked_up[host] = self.looked_up.get(host, 0) + 1
        address = self.found[host](self.looked_up[host]) if host in self.found else host
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise socket.gaierror("no such host") from None
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> FakeResolver:
    resolver, really = FakeResolver(), inward.is_global
    resolver.found["render.example"] = lambda _times: OUTSIDE
    resolver.found["inside.example"] = lambda _times: INSIDE
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(inward, "is_global", lambda address: str(address) == OUTSIDE or really(address))
    return resolver


@pytest.fixture
def internet_server() -> Iterator[Listener]:
    running = Listener(OUTSIDE)
    yield running
    running.stop()


@pytest.fixture
def lan_router() -> Iterator[Listener]:
    running = Listener(INSIDE)
    yield running
    running.stop()


def signed_in(internet_server: Listener, root: str = "http://render.example", **paths: str) -> ServerClient:
    """A client of a server whose endpoints lead where ``paths`` say."""
    kinds = ("request-job", "keepmealive", "download-archive", "validate-job", "error", "logout")
    listed = "".join(
        f'<request type="{kind}" path="{paths.get(kind.replace("-", "_"), "/" + kind)}"/>' for kind in kinds
    )
    internet_server.pages["/server/config.php"] = (200, {}, f'<config status="0">{listed}</config>')
    client = ServerClient(f"{root}:{internet_server.port}", connect_timeout_s=2, read_timeout_s=2, answer_deadline_s=4)
    client.sign_in(SIGN_IN)
    return client


def ask_everything(client: ServerClient, tmp_path: Any) -> list[str]:
    """The reasons why each exchange gave nothing."""
    reasons: list[str] = []
    file = (tmp_path / "archive").open("wb")
    calls: list[Callable[[], object]] = [
        lambda: client.request_job(JobRequest(compute_method=1)),
        lambda: client.beat(Beat(job="1", frame="1")),
        lambda: client.download(ArchiveRequest(type="job", job="1"), file, limit_bytes=1000, cancelled=lambda: False),
    ]
    for call in calls:
        with pytest.raises(ServerSilent) as silent:
            call()
        reasons.append(silent.value.reason)
    file.close()
    return reasons


@pytest.mark.parametrize("host", [INSIDE, "inside.example", "localhost", "[::ffff:127.0.0.1]"])
def test_no_endpoint_of_a_server_on_the_internet_leads_inside(
    resolver: FakeResolver, internet_server: Listener, lan_router: Listener, host: str, tmp_path: Any
) -> None:
    resolver.found["localhost"] = lambda _times: INSIDE
    url = f"http://{host}:{lan_router.port}{REBOOT}"
    client = signed_in(internet_server, request_job=url, keepmealive=url, download_archive=url)
    assert all("address of this network" in reason for reason in ask_everything(client, tmp_path))
    assert lan_router.asked == []


def test_nor_does_a_redirect(
    resolver: FakeResolver, internet_server: Listener, lan_router: Listener, tmp_path: Any
) -> None:
    to_router = (307, {"Location": f"http://inside.example:{lan_router.port}{REBOOT}"}, "")
    internet_server.pages |= dict.fromkeys(("/request-job", "/keepmealive", "/download-archive"), to_router)
    reasons = ask_everything(signed_in(internet_server), tmp_path)
    assert all("address of this network" in reason for reason in reasons)
    assert lan_router.asked == []
    assert "/request-job" in internet_server.asked


def test_a_name_that_is_found_as_another_address_a_moment_later_gains_nothing(
    resolver: FakeResolver, internet_server: Listener, lan_router: Listener, tmp_path: Any
) -> None:
    """Each second look-up says inside: whoever judged one answer and connected to the next would be led there."""
    resolver.found["flips.example"] = lambda times: OUTSIDE if times % 2 else INSIDE
    url = f"http://flips.example:{lan_router.port}{REBOOT}"
    client = signed_in(internet_server, request_job=url, keepmealive=url, download_archive=url)
    ask_everything(client, tmp_path)
    assert lan_router.asked == []


def test_the_servers_own_name_cannot_move_inside_either(
    resolver: FakeResolver, internet_server: Listener, lan_router: Listener, tmp_path: Any
) -> None:
    moved = threading.Event()
    resolver.found["render.example"] = lambda _times: INSIDE if moved.is_set() else OUTSIDE
    url = f"http://render.example:{lan_router.port}{REBOOT}"
    client = signed_in(internet_server, request_job=url, keepmealive=url, download_archive=url)
    moved.set()
    assert all("address of this network" in reason for reason in ask_everything(client, tmp_path))
    assert lan_router.asked == []


def test_a_server_that_is_inside_may_name_what_is_inside(
    internet_server: Listener, lan_router: Listener, tmp_path: Any
) -> None:
    """The lab: everything is on loopback."""
    url = f"http://{INSIDE}:{lan_router.port}/work"
    client = signed_in(
        internet_server, root=f"http://{OUTSIDE}", request_job=url, keepmealive=url, download_archive=url
    )
    with pytest.raises(ServerSilent):  # the answer is none; it was asked all the same
        client.request_job(JobRequest(compute_method=1))
    assert lan_router.asked == ["/work"]
