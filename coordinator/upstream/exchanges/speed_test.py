"""How fast the line to some addresses is, for servers that ask (since 2021-11); within bounds of bytes and seconds.

An address is any text of the server's. So only http and https are followed, without cookies of anybody; that none leads
into this network is the transport's rule (:mod:`coordinator.upstream.transport.inward`). All sessions of a farm
share its line, so an address is measured once an hour for all of them, one after the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coordinator.upstream.errors import BadResponse, ServerSilent
from coordinator.upstream.transport.addresses import public
from coordinator.upstream.transport.connections import SharedJar
from coordinator.upstream.transport.deadline import Deadline
from coordinator.upstream.transport.http_transport import HttpCall, HttpTransport, Response, fixed_body
from sheepfold.protocol import writing
from sheepfold.protocol.session_messages import SpeedTestResult

from .server_session import ServerSession

log = logging.getLogger(__name__)

#: More would only measure the same line again.
MAX_TARGETS = 4
#: Of one address; a fast line needs no more to show it.
MOST_BYTES = 8 * 1024 * 1024
MOST_S = 5.0
#: Small enough that a slow line's bytes are counted as they come.
PIECE_BYTES = 4 * 1024
#: A line does not change within minutes, and sessions may begin anew again and again.
AGAIN_AFTER_S = 3600.0


@dataclass
class _Measure:
    """One transfer, counted as it goes."""

    clock: Callable[[], float]
    begun: float
    first_byte_at: float | None = None
    ended: float = 0.0
    size: int = 0

    def read(self, response: Response, _deadline: Deadline) -> None:
        if response.status_code != 200:
            raise BadResponse(f"HTTP {response.status_code}", response.status_code)
        for piece in response.raw.stream(PIECE_BYTES, decode_content=False):
            now = self.clock()
            self.first_byte_at = self.first_byte_at or now
            self.size, self.ended = self.size + len(piece), now
            if self.size >= MOST_BYTES or now - self.begun >= MOST_S:
                return

    def result(self, url: str) -> SpeedTestResult:
        if self.first_byte_at is None:
            return SpeedTestResult(url=url, speed=0, ping_ms=0)
        # Of what came after the first byte; a body of one piece has only the whole way to go by.
        transfer_s = (self.ended - self.first_byte_at) or (self.ended - self.begun)
        ping_ms = round((self.first_byte_at - self.begun) * 1000)
        return SpeedTestResult(url=url, speed=int(self.size / max(transfer_s, 0.001)), ping_ms=ping_ms)


class SpeedClient(Protocol):
    """Runs the exchange inside its own session (:class:`coordinator.upstream.client.ServerClient`)."""

    def run_speed_test(self, tests: SpeedTests, targets: tuple[str, ...]) -> None: ...


class SpeedTests:
    """Measures for all sessions, in whatever thread asks. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` counts seconds and never jumps."""
        self._clock = clock
        self._lock = threading.Lock()
        #: Address → what it gave, and when (the clock's seconds).
        self._known: dict[str, tuple[SpeedTestResult, float]] = {}

    def run_for(self, client: SpeedClient, targets: tuple[str, ...]) -> None:
        """The whole test; where the server does not take the outcome, the log says so and nothing else happens."""
        try:
            client.run_speed_test(self, targets)
        except ServerSilent as error:
            log.info("speed test: %s", error)

    def run(
        self, exchanges: HttpTransport, session: ServerSession, targets: tuple[str, ...], *, deadline_s: float
    ) -> tuple[SpeedTestResult, ...]:
        """Measures the first of ``targets`` and tells the server; raises ``ServerSilent`` where it does not listen."""
        with self._lock:
            results = tuple(self._result(exchanges, session.base, url) for url in targets[:MAX_TARGETS])
        body = writing.write_speed_test_report(results)
        call = session.call(
            "speed test",
            "speedtest_answer",
            method="POST",
            body=fixed_body(body, "application/xml; charset=utf-8"),
            deadline_s=deadline_s,
        )
        exchanges.make(call, lambda _response, _deadline: None)
        return results

    def _result(self, exchanges: HttpTransport, base: str, url: str) -> SpeedTestResult:
        known, at = self._known.get(url, (None, 0.0))
        if known is None or self._clock() - at >= AGAIN_AFTER_S:
            known = _measured(exchanges, base, url, self._clock)
            self._known[url] = known, self._clock()
        return known


def _measured(exchanges: HttpTransport, base: str, url: str, clock: Callable[[], float]) -> SpeedTestResult:
    measure = _Measure(clock=clock, begun=clock())
    call = HttpCall(exchange="speed test", base=base, path=url, jar=SharedJar(), deadline_s=2 * MOST_S)
    try:
        exchanges.make(call, measure.read)
    except ServerSilent as error:
        log.info("speed test of %s: %s", public(url), error.reason)
    return measure.result(url)
