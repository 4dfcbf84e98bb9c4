"""Faults on purpose, for tests: the server answers wrongly, slowly, half or not at all.

Off unless ``--faults`` or ``--fault-rate`` is given. A fault is posted to ``/api/faults`` and hits the next ``count``
requests of its exchange, or comes at random with a share of all exchanges (the same seed gives the same faults in the
same order of requests).

Actions::

    status:202      an answer of the exchange with that status; nothing else happens
    http:500        that HTTP status and an HTML page; nothing else happens
    drop            the connection is cut before anything happens
    lost            everything happens, then the connection is cut instead of the answer
    garbage         HTTP 200 with an HTML page; nothing else happens
    half            everything happens, the answer is cut off in its middle
    slow:2.5        everything happens that many seconds late
    wrong-md5       everything happens, one byte of the answer's body is another one
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass, replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.errors import BadInput
from lab.server.protocol.endpoints import ENDPOINTS, SPECIFIED_LOGOUT
from sheepfold.protocol.messages import BeatAnswer, ErrorAnswer, JobAnswer, ValidationAnswer
from sheepfold.protocol.session_messages import SignInAnswer
from sheepfold.protocol.writing import (
    write_beat_answer,
    write_error_answer,
    write_job_answer,
    write_sign_in_answer,
    write_validation_answer,
)

#: Exchange → paths. The names are those of the configuration answer; every download counts as one of an archive.
EXCHANGES = {
    "config": ("/server/config.php",),
    "request-job": (ENDPOINTS.request_job,),
    "validate-job": (ENDPOINTS.validate_job,),
    "download-archive": (ENDPOINTS.download_archive, ENDPOINTS.download_binary, ENDPOINTS.download_chunk),
    "error": (ENDPOINTS.error,),
    "keepmealive": (ENDPOINTS.keepmealive,),
    "logout": (ENDPOINTS.logout, SPECIFIED_LOGOUT),
}
_BY_PATH = {path: exchange for exchange, paths in EXCHANGES.items() for path in paths}
_ACTION = re.compile(
    r"status:(?P<status>\d{1,4})|http:(?P<http>[45]\d\d)|slow:(?P<slow>\d{1,3}(?:\.\d{1,3})?)"
    r"|(?P<plain>drop|lost|garbage|half|wrong-md5)",
    re.ASCII,
)
#: What comes at random. Statuses do not: a server that says 202 to a living session is lying, not failing.
RANDOM_ACTIONS = ("http:500", "http:503", "drop", "lost", "garbage", "half", "slow:1")
RANDOM_DOWNLOAD_ACTIONS = (*RANDOM_ACTIONS, "wrong-md5")
MAX_SCRIPTED = 10_000
_PAGE = b"<!DOCTYPE html><html><head><title>Oops</title></head><body><h1>Something went wrong</h1></body></html>"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with the next ``count`` requests of an exchange."""

    exchange: str
    action: str
    count: int = 1

    def __post_init__(self) -> None:
        if self.exchange not in EXCHANGES:
            raise BadInput(f"exchange is one of {', '.join(EXCHANGES)}")
        if not _ACTION.fullmatch(self.action):
            raise BadInput("action is status:N, http:N, slow:SECONDS, drop, lost, garbage, half or wrong-md5")
        if not 1 <= self.count <= MAX_SCRIPTED:
            raise BadInput(f"count is 1 to {MAX_SCRIPTED}")


class FaultPlan:
    """Which fault comes next, and how many there were."""

    def __init__(self, *, rate: float = 0.0, seed: int = 0) -> None:
        self._rate = rate
        self._random = random.Random(seed)
        self._scripted: list[Fault] = []
        #: ``request-job drop`` → times.
        self.happened: dict[str, int] = {}

    def script(self, fault: Fault) -> None:
        """Let it happen to the next requests of its exchange, after those scripted earlier."""
        if len(self._scripted) >= MAX_SCRIPTED:
            raise BadInput(f"{MAX_SCRIPTED} faults are waiting already")
        self._scripted.append(fault)

    def clear(self) -> None:
        """Forget what was scripted and has not happened."""
        self._scripted.clear()

    def set_rate(self, rate: float, seed: int | None = None) -> None:
        """From now on, this share of all exchanges fails."""
        self._rate = rate
        if seed is not None:
            self._random = random.Random(seed)

    def next(self, exchange: str) -> str | None:
        """The action for this request, if any."""
        action = self._next_scripted(exchange) or self._next_random(exchange)
        if action is not None:
            name = f"{exchange} {action}"
            self.happened[name] = self.happened.get(name, 0) + 1
        return action

    def _next_scripted(self, exchange: str) -> str | None:
        for index, fault in enumerate(self._scripted):
            if fault.exchange == exchange:
                if fault.count == 1:
                    del self._scripted[index]
                else:
                    self._scripted[index] = replace(fault, count=fault.count - 1)
                return fault.action
        return None

    def _next_random(self, exchange: str) -> str | None:
        if not self._rate or self._random.random() >= self._rate:
            return None
        return self._random.choice(RANDOM_DOWNLOAD_ACTIONS if exchange == "download-archive" else RANDOM_ACTIONS)


class FaultMiddleware:
    """The ASGI layer that injects faults, inside ``CanonicalHeaders``; only this one touches the connection."""

    def __init__(self, app: ASGIApp, plan: FaultPlan) -> None:
        self._app = app
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _exchange_of(scope)
        action = self._plan.next(exchange) if exchange else None
        if exchange is None or action is None:
            await self._app(scope, receive, send)
            return
        found = _ACTION.fullmatch(action)
        assert found is not None
        if found["slow"]:
            await asyncio.sleep(float(found["slow"]))
            await self._app(scope, receive, send)
        elif found["plain"] in ("half", "lost", "wrong-md5"):
            await self._app(scope, receive, _Spoiler(send, found["plain"]))
        elif found["plain"] == "drop":
            await _cut(send)
        else:
            await _drain(receive)
            await _answer(send, *_made_up(exchange, found))


class _Spoiler:
    """Lets a whole answer be made and spoils it on its way out."""

    def __init__(self, send: Send, how: str) -> None:
        self._send = send
        self._how = how
        self._left: int | None = None
        self._done = False

    async def __call__(self, message: Message) -> None:
        if self._done:
            return
        if self._how == "lost":
            if not message.get("more_body", False) and message["type"] == "http.response.body":
                self._done = True
                await _cut(self._send)
        elif self._how == "half":
            await self._half(message)
        else:
            await self._twist(message)

    async def _half(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            length = dict(message["headers"]).get(b"content-length", b"2")
            self._left = int(length) // 2
            await self._send(message)
            return
        body = message.get("body", b"")[: self._left]
        self._left = (self._left or 0) - len(body)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        if self._left <= 0:
            self._done = True
            await asyncio.sleep(0.05)  # the half should arrive: a reset could overtake it
            await _cut(self._send)

    async def _twist(self, message: Message) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            body = bytearray(message["body"])
            body[len(body) // 2] ^= 0xFF
            message = {**message, "body": bytes(body)}
            self._how = "done twisting"
        await self._send(message)


def _exchange_of(scope: Scope) -> str | None:
    if scope["type"] != "http":
        return None
    if scope["path"] == "/" and b"login=" in scope.get("query_string", b""):
        return "config"
    return _BY_PATH.get(scope["path"])


def _made_up(exchange: str, found: re.Match[str]) -> tuple[int, bytes, bytes]:
    if found["http"]:
        return int(found["http"]), b"text/html", _PAGE
    if found["plain"] == "garbage" or exchange in ("download-archive", "logout"):
        return 200, b"text/html", _PAGE
    status = int(found["status"])
    written = {
        "config": lambda: write_sign_in_answer(SignInAnswer(status=status)),
        "request-job": lambda: write_job_answer(JobAnswer(status=status)),
        "validate-job": lambda: write_validation_answer(ValidationAnswer(status=status)),
        "keepmealive": lambda: write_beat_answer(BeatAnswer(status=status)),
        "error": lambda: write_error_answer(ErrorAnswer(status=status)),
    }
    return 200, b"text/xml; charset=utf-8", written[exchange]()


async def _answer(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _drain(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


async def _cut(send: Send) -> None:
    """Cut the connection. ASGI has no word for that, so uvicorn's transport is taken from behind its ``send``."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("this ASGI server gives no access to its connection")
    transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # by now uvicorn knows that it is disconnected
