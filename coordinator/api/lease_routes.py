"""What nodes say about their leases over HTTP: start, frame, failure.

These are the LAN API's busiest paths, two requests for every frame of a thousand PCs, so they stand apart from the
rest: a plain ASGI application without the layers that a web framework adds, and a pool of threads of its own for what
waits for a disk. Paths and messages are those of :mod:`sheepfold.contract.api_messages`; what a claim means is decided
in :mod:`coordinator.delivery.claims`.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from coordinator.scheduling.backpressure import InFlightGauge
from sheepfold.contract.api_messages import FailureReport, FrameReport, StartAnswer
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import MalformedContract

#: A PC that sends nothing for this long is gone; it sends its frame again when it is back.
STALLED_AFTER_S = 60
#: A failure report with its log is far smaller.
MAX_JSON_BYTES = 4 * 1024 * 1024
#: A body of this many bytes is held in memory; a longer one is read piece by piece by the thread that stores it.
MAX_IN_MEMORY = 1024 * 1024
#: Threads that wait for the ledger, the spool and the inspection; more would only wait for each other.
THREADS = 8

#: No render takes longer (four months), more memory (a terabyte squared) or more threads; larger figures are damage.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=10**7)]
Kilobytes = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Threads = Annotated[int, msgspec.Meta(ge=0, le=2**20)]

T = TypeVar("T")


class ClaimHandler(Protocol):
    """What a node may say about a lease (:class:`coordinator.delivery.claims.Claims`)."""

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> StartAnswer: ...
    def deliver(
        self, lease_id: str, attempt: int, node_id: str, report: FrameReport, chunks: Iterator[bytes]
    ) -> None: ...
    def fail(self, lease_id: str, attempt: int, node_id: str, report: FailureReport) -> None: ...


class Refused(Exception):
    """The request is none of ours, or damaged."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """The query of every path."""

    node: Annotated[str, msgspec.Meta(max_length=100)]
    attempt: int
    #: Of a start only.
    claim: Annotated[str, msgspec.Meta(max_length=100)] = ""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What stands beside it in the query of a delivery."""

    name: Annotated[str, msgspec.Meta(max_length=255)]
    md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    render_s: Seconds
    memory_kb: Kilobytes
    cores: Threads


class LeaseRoutes:
    """An ASGI application for ``/api/leases/{id}/{start,frame,failure}``.

    ``has_token`` checks the ``Authorization`` header; ``statuses`` gives the HTTP status of each error that the claims
    raise.
    """

    def __init__(
        self,
        claims: ClaimHandler,
        has_token: Callable[[str], bool],
        statuses: Mapping[type[Exception], int],
        pressure: InFlightGauge,
    ) -> None:
        self._claims, self._has_token, self._statuses = claims, has_token, statuses
        self._pressure = pressure
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="claims")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if not self._has_token(request.headers.get("authorization", "")):
                raise Refused(401, "the farm token is missing or wrong: compare SHEEPFOLD_FARM_TOKEN on both sides")
            status, body = 200, await self._answer(request)
        except Refused as refused:
            status, body = refused.status, _text(detail=str(refused))
        except tuple(self._statuses) as error:
            status = next(code for kind, code in self._statuses.items() if isinstance(error, kind))
            body = _text(detail=str(error))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, request: Request) -> bytes:
        lease_id, _, act = request.url.path.removeprefix("/api/leases/").partition("/")
        query = dict(parse_qsl(request.url.query, keep_blank_values=True))
        if (request.method, act) == ("POST", "start"):
            return await self._start(lease_id, _read(_Claim, query))
        if (request.method, act) == ("PUT", "frame"):
            return await self._frame(lease_id, _read(_Claim, query), _read(_Frame, query), request)
        if (request.method, act) == ("POST", "failure"):
            return await self._failure(lease_id, _read(_Claim, query), request)
        raise Refused(404, "a node may POST start, PUT frame or POST failure of a lease")

    async def _start(self, lease_id: str, claim: _Claim) -> bytes:
        answer = await self._in_a_thread(self._claims.start, lease_id, claim.attempt, claim.node, claim.claim)
        return to_json(answer).encode()

    async def _frame(self, lease_id: str, claim: _Claim, frame: _Frame, request: Request) -> bytes:
        report = FrameReport(**vars(frame))
        if _length(request) <= MAX_IN_MEMORY:
            chunks = iter([await _body(request, MAX_IN_MEMORY)])
        else:
            chunks = _chunks_for_a_thread(request.stream(), asyncio.get_running_loop())
        await self._in_a_thread(self._claims.deliver, lease_id, claim.attempt, claim.node, report, chunks)
        return _text(verdict="taken")

    async def _failure(self, lease_id: str, claim: _Claim, request: Request) -> bytes:
        try:
            report = from_json(FailureReport, await _body(request, MAX_JSON_BYTES))
            _read(_Figures, {"render_s": report.render_s, "memory_kb": report.memory_kb})
        except MalformedContract as error:
            raise Refused(422, str(error)) from None
        await self._in_a_thread(self._claims.fail, lease_id, claim.attempt, claim.node, report)
        return _text(verdict="noted")

    async def _in_a_thread(self, work: Callable[..., T], *arguments: object) -> T:
        with self._pressure.track():
            return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(work, *arguments))


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """The figures of a render; out of range they make the request invalid."""

    render_s: Seconds
    memory_kb: Kilobytes


def _text(**said: str) -> bytes:
    return json.dumps(said, ensure_ascii=False).encode()


def _read(kind: type[T], query: Mapping[str, Any]) -> T:
    try:
        return msgspec.convert(query, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)) from None


def _length(request: Request) -> int:
    """Bytes of the body as announced; a body of unknown length counts as long."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else MAX_IN_MEMORY + 1


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async with asyncio.timeout(STALLED_AFTER_S):
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise Refused(413, f"more than {limit} bytes")
    return bytes(body)


def _chunks_for_a_thread(stream: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The request's body, read chunk by chunk from inside a worker thread: a large picture is never in memory."""

    async def following() -> bytes | None:
        async with asyncio.timeout(STALLED_AFTER_S):
            return await anext(stream, None)

    while (chunk := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not None:
        yield chunk


#: What a broken-off body raises here, with the status a node reads as "send it again".
BROKEN_OFF: dict[type[Exception], int] = {ClientDisconnect: 400, TimeoutError: 408}
