"""The worker's calls, against a real server that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from render_tasks.coordinator_client import CoordinatorClient
from render_tasks.errors import (
    ArchiveMissing,
    CoordinatorError,
    CoordinatorFailed,
    CoordinatorRefused,
    CoordinatorUnreachable,
    FrameRejected,
    StaleLease,
    TokenRefused,
)
from sheepfold.contract.api_messages import (
    ArchiveManifest,
    ArchiveSources,
    FailureKind,
    FailureReport,
    FrameReport,
    JoinAnswer,
    JoinRequest,
    StartAnswer,
)
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.orders import ArchiveRef
from sheepfold.contract.presence import Compute, NodeHardware

TOKEN = "not-to-be-seen"
NODE_SECRET = "5" * 64
WISH = JoinRequest(
    contract_version=1, node_id="n", secret=NODE_SECRET, wanted_name="pc", slots=1, compute=Compute.CPU,
    hardware=NodeHardware(os="linux", bits="64bit", cpu_family="", cpu_model="", cpu_model_name="", cpu_cores=1, ram=1),
)  # fmt: skip
PLAN = ArchiveManifest(
    md5="0" * 32, size=2, piece_bytes=1024**2, sums=("ab",), sources=ArchiveSources(coordinator="http://c:8423")
)
REPORT = FrameReport(name="frame_0001.png", md5="0" * 32, render_s=1.25, memory_kb=7, cores=2)


class FakeCoordinator:
    """Answers every request with ``status`` and ``body``; keeps the last request."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"{}", {}
        self.cut_after: int | None = None
        self.got: dict[str, Any] = {}
        #: Where the connections came from.
        self.callers: set[tuple[str, int]] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                server.callers.add(self.client_address)
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.got = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": content}
                self.send_response(server.status)
                for name, value in {"Content-Length": str(len(server.body)), **server.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(server.body[: server.cut_after])

            do_GET = do_POST = do_PUT = _do  # noqa: N815 (http.server's names)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[FakeCoordinator]:
    server = FakeCoordinator()
    yield server
    server.close()


@pytest.fixture
def client(server: FakeCoordinator) -> CoordinatorClient:
    return CoordinatorClient(server.url + "/", TOKEN, NODE_SECRET, read_timeout_s=2)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "frame_0001.png"
    path.write_bytes(b"picture" * 1000)
    return path


def calls(client: CoordinatorClient, picture: Path) -> dict[str, Callable[[], Any]]:
    return {
        "join": lambda: client.join(WISH),
        "start": lambda: client.start("ab", 1, "n", "word"),
        "deliver": lambda: client.deliver("ab", 1, "n", REPORT, picture),
        "fail": lambda: client.fail("ab", 1, "n", FailureReport(kind=FailureKind.NO_OUTPUT, reason="none")),
        "archive": lambda: client.plan(ArchiveRef(md5="0" * 32, size=2), "n", ""),
        "sources": lambda: client.sources("0" * 32, "n", ""),
    }


def test_a_join_brings_what_the_node_needs(server: FakeCoordinator, client: CoordinatorClient) -> None:
    answer = JoinAnswer(name="pc-02", redis_url="redis://:pw@h/0", queue="farm.n", farm_id="f1", order_key="k")
    server.body = to_json(answer).encode()
    assert client.join(WISH) == answer
    assert server.got["headers"]["Authorization"] == f"Bearer {TOKEN}"
    assert from_json(JoinRequest, server.got["body"]) == WISH


def test_a_frame_is_streamed_with_its_report(server: FakeCoordinator, client: CoordinatorClient, picture: Path) -> None:
    client.deliver("ab", 2, "n", REPORT, picture)
    assert server.got["method"] == "PUT"
    assert server.got["path"] == (
        f"/api/leases/ab/frame?node=n&attempt=2&name=frame_0001.png&md5={'0' * 32}&render_s=1.25&memory_kb=7&cores=2"
    )
    assert server.got["headers"]["Content-Length"] == "7000"
    assert server.got["body"] == picture.read_bytes()


def test_a_start_names_attempt_node_and_claim(server: FakeCoordinator, client: CoordinatorClient) -> None:
    server.body = to_json(StartAnswer(scene_password="öffne")).encode()
    assert client.start("a/b", 3, "n", "word").scene_password == "öffne"
    assert server.got["path"] == "/api/leases/a%2Fb/start?node=n&attempt=3&claim=word"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"scene_password": 5}', b'["s3cret"]', b'{"scene_password": "s3cret']
)
def test_a_start_whose_answer_cannot_be_read_is_asked_again_and_not_quoted(
    server: FakeCoordinator, client: CoordinatorClient, body: bytes
) -> None:
    server.body = body
    with pytest.raises(CoordinatorUnreachable) as raised:
        client.start("ab", 1, "n", "word")
    assert "s3cre" not in str(raised.value)


@pytest.mark.parametrize("call", ["join", "start", "deliver", "fail", "archive", "sources"])
@pytest.mark.parametrize(
    ("status", "error"),
    [(500, CoordinatorFailed), (502, CoordinatorUnreachable), (503, CoordinatorUnreachable), (408,
    CoordinatorUnreachable), (429, CoordinatorUnreachable),
     (302, CoordinatorUnreachable), (401, TokenRefused), (403, CoordinatorRefused), (426, CoordinatorRefused), (405,
     CoordinatorRefused)],
)  # fmt: skip
def test_an_answer_means_the_same_for_every_call(
    server: FakeCoordinator,
    client: CoordinatorClient,
    picture: Path,
    call: str,
    status: int,
    error: type[CoordinatorError],
) -> None:
    server.status, server.headers = status, {"Location": "/elsewhere"}
    with pytest.raises(error):
        calls(client, picture)[call]()


@pytest.mark.parametrize(
    ("call", "status", "error"),
    [("start", 409, StaleLease), ("deliver", 409, StaleLease), ("fail", 409, StaleLease), ("join", 409,
    CoordinatorRefused),
     ("deliver", 422, FrameRejected), ("fail", 422, CoordinatorRefused), ("deliver", 400, CoordinatorUnreachable),
     ("deliver", 413, CoordinatorRefused), ("archive", 404, ArchiveMissing), ("sources", 404, ArchiveMissing),
     ("start", 404, CoordinatorRefused)],
)  # fmt: skip
def test_a_refusal_is_told_apart(
    server: FakeCoordinator,
    client: CoordinatorClient,
    picture: Path,
    call: str,
    status: int,
    error: type[CoordinatorError],
) -> None:
    server.status, server.body = status, json.dumps({"detail": "said so"}).encode()
    with pytest.raises(error) as raised:
        calls(client, picture)[call]()
    assert error in (ArchiveMissing, CoordinatorUnreachable) or "said so" in str(raised.value)


def test_a_join_answer_that_is_none_is_silence(server: FakeCoordinator, client: CoordinatorClient) -> None:
    for body in (b"<html>", b"{}", b"[]"):
        server.body = body
        with pytest.raises(CoordinatorUnreachable):
            client.join(WISH)


def test_a_coordinator_that_is_not_there_is_silence_without_its_address_or_token(picture: Path) -> None:
    client = CoordinatorClient("http://127.0.0.1:9", TOKEN, NODE_SECRET)
    for call in calls(client, picture).values():
        with pytest.raises(CoordinatorUnreachable) as silent:
            call()
        assert TOKEN not in str(silent.value) + repr(client)
        assert silent.value.__cause__ is None


def test_a_plan_is_asked_for_with_the_node_and_where_it_serves(
    server: FakeCoordinator, client: CoordinatorClient
) -> None:
    server.body = to_json(PLAN).encode()
    assert client.plan(ArchiveRef(md5="0" * 32, size=2), "n", "http://h:1") == PLAN
    assert server.got["path"] == f"/api/archives/{'0' * 32}?node=n&url=http%3A%2F%2Fh%3A1"
    server.body = to_json(PLAN.sources).encode()
    assert client.sources("0" * 32, "n", "") == PLAN.sources
    assert server.got["path"] == f"/api/archives/{'0' * 32}/sources?node=n&url="


@pytest.mark.parametrize("change", [{"sums": ()}, {"piece_bytes": 0}, {"piece_bytes": 1}, {"size": -1}])
def test_a_plan_that_does_not_add_up_is_silence(
    server: FakeCoordinator, client: CoordinatorClient, change: dict[str, Any]
) -> None:
    server.body = to_json(replace(PLAN, **change)).encode()
    with pytest.raises(CoordinatorUnreachable):
        client.plan(ArchiveRef(md5="0" * 32, size=2), "n", "")


def test_a_node_knows_the_address_by_which_it_reaches_the_coordinator(client: CoordinatorClient) -> None:
    assert client.own_address() == "127.0.0.1"
    with pytest.raises(OSError, match=r".+"):
        CoordinatorClient("http://no-such-host.invalid:1", TOKEN, NODE_SECRET).own_address()


def test_a_studios_proxy_and_netrc_have_no_say(
    server: FakeCoordinator, client: CoordinatorClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    client.start("ab", 1, "n", "word")
    assert server.got["headers"]["Authorization"] == f"Bearer {TOKEN}"


def test_many_threads_use_no_more_connections_than_they_need_at_once(
    server: FakeCoordinator, client: CoordinatorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseHTTPRequestHandler, "protocol_version", "HTTP/1.1")
    for number in range(20):
        thread = threading.Thread(target=client.start, args=(f"lease-{number}", 1, "n", "word"))
        thread.start()
        thread.join(10)
    assert len(server.callers) == 1
