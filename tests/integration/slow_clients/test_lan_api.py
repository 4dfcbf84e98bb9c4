"""Frames a second that the LAN API takes while clients drip, against its twin; and its memory."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from prometheus_client import CollectorRegistry

from coordinator.api.app import ApiServices, create_api
from coordinator.delivery.claims import Claims
from coordinator.delivery.spool import Spool
from coordinator.delivery.validation import FrameValidator
from coordinator.leases.lease import Lease
from coordinator.leases.ledger import Ledger
from coordinator.runtime.http_server import UvicornThread
from sheepfold.serving.connection_limits import ConnectionRules
from tests.support.coordinator.builders import Listener, look, open_ledger, rendering
from tests.support.coordinator.fakes import OpenAdmission
from tests.support.servers import slow_clients
from tests.support.servers.slow_clients import Steps, compare, connect, dripping

TOKEN = "f4" * 24
PICTURE = b"PNG" + bytes(40_000)
MD5 = hashlib.md5(PICTURE).hexdigest()
#: Half heads are cut off within the run.
RULES = ConnectionRules(head_s=3.0)
#: Frames under one attack.
FRAMES = 60


@dataclass(frozen=True, kw_only=True)
class LanApi:
    """A coordinator's LAN API with a real ledger and spool."""

    ledger: Ledger
    port: int

    def frame_path(self, lease: Lease, md5: str = MD5) -> str:
        query = {"node": "n1", "attempt": 1, "name": "a.png", "md5": md5, "render_s": 1, "memory_kb": 1, "cores": 1}
        return f"/api/leases/{lease.id}/frame?{urlencode(query)}"

    def deliveries(self) -> Callable[[], Steps]:
        """One node delivers frame after frame."""
        client, numbers = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10), itertools.count(1)

        def some() -> Steps:
            leases = [rendering(self.ledger, f"{next(numbers):04d}") for _ in range(FRAMES)]
            return [functools.partial(self._deliver, client, lease) for lease in leases]

        return some

    def _deliver(self, client: http.client.HTTPConnection, lease: Lease) -> None:
        client.request("PUT", self.frame_path(lease), PICTURE, {"Authorization": f"Bearer {TOKEN}"})
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"verdict": "taken"}')


@contextmanager
def running(tmp_path: Path) -> Iterator[LanApi]:
    """An API, stopped at the end."""
    tmp_path.mkdir()
    ledger = open_ledger(tmp_path / "ledger.sqlite")
    claims = Claims(
        ledger, Spool(tmp_path / "spool").open(), FrameValidator(look, lambda _lease: None), Listener(), attempts=2
    )
    never = cast("Any", None)
    parts = ApiServices(
        farm_token=TOKEN,
        claims=claims,
        certificates=never,
        nodes=cast("Any", OpenAdmission()),
        archives=never,
        operator=never,
        flower=never,
        revocation=never,
        jobs=never,
        metrics=CollectorRegistry(),
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = UvicornThread(create_api(parts), "127.0.0.1", port, rules=RULES).bind().start()
    yield LanApi(ledger=ledger, port=port)
    server.stop()
    ledger.database.close()


@contextmanager
def dripping_deliveries(api: LanApi) -> Iterator[None]:
    """Eight nodes with the farm token send a large frame, a byte now and then."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(api.port)) for _ in range(8)]
        for number, client in enumerate(clients):
            path = api.frame_path(rendering(api.ledger, f"9{number:03d}"))
            head = (
                f"PUT {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 50000000\r\n\r\n"
            )
            client.sendall(head.encode())
        stack.enter_context(dripping(clients))
        yield


def half_heads(api: LanApi) -> contextlib.AbstractContextManager[None]:
    """1,200 connections without a token send the first half of a request."""
    return slow_clients.half_heads(api.port)


@contextmanager
def bodies_without_a_token(api: LanApi) -> Iterator[None]:
    """200 connections announce a body of 4 MB each, and send half of it; nobody asked them to."""
    with ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(connect(api.port))
            client.settimeout(0.2)
            with contextlib.suppress(OSError):
                client.sendall(
                    b"POST /api/join HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n" + bytes(2_000_000)
                )
        yield


@pytest.mark.timeout(240)
@pytest.mark.parametrize("attack", [dripping_deliveries, half_heads, bodies_without_a_token])
def test_frames_go_on_during_an_attack_and_memory_stays(
    tmp_path: Path, attack: Callable[[LanApi], contextlib.AbstractContextManager[None]]
) -> None:
    with running(tmp_path / "api") as api, running(tmp_path / "twin") as twin:
        compare(twin.deliveries(), api.deliveries(), lambda: attack(api)).check()
