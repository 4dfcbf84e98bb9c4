"""What nodes say about their leases over HTTP: start, frame, failure.

These are the LAN API's busiest paths, two requests for every frame of a thousand PCs, so they stand apart from the
rest: a plain ASGI application without the layers that a web framework adds, and a pool of threads of its own for what
waits for a disk. Bodies are received on the event loop; no thread ever waits for a client. Paths and messages are those
of :mod:`sheepfold.contract.api_messages`; what a claim means is decided in :mod:`coordinator.delivery.claims`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
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

from .callers import proves_node
from .errors import RequestRefused

#: A PC that sends nothing for this long is gone; it sends its frame again when it is back.
STALLED_AFTER_S = 60
#: A failure report with its log is far smaller.
MAX_JSON_BYTES = 4 * 1024 * 1024
#: A body of this many bytes is held in memory until it is whole; a longer one goes to the disk in pieces of it.
MAX_IN_MEMORY = 1024 * 1024
#: Bytes of bodies held in memory by all requests together; above it frames go to the disk, and reports come again.
MAX_HELD_BYTES = 64 * 1024 * 1024
#: Long bodies of one lease at a time; the second may be the same node after its connection was lost.
DELIVERIES_OF_A_LEASE = 2
#: Threads that wait for the ledger, the spool and the inspection; more would only wait for each other.
THREADS = 8
#: Method and end of the path of what is answered.
ACTS = (("POST", "start"), ("PUT", "frame"), ("POST", "failure"))

#: No render takes longer (four months), more memory (a terabyte squared) or more threads; larger figures are damage.
Seconds = Annotated[float, msgspec.Meta(ge=0, le=10**7)]
Kilobytes = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Threads = Annotated[int, msgspec.Meta(ge=0, le=2**20)]

T = TypeVar("T")
_Delivery = tuple[str, int, str, FrameReport]


class ClaimHandler(Protocol):
    """What a node may say about a lease (:class:`coordinator.delivery.claims.Claims`)."""

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> StartAnswer: ...
    def deliver(
        self, lease_id: str, attempt: int, node_id: str, report: FrameReport, chunks: Iterator[bytes]
    ) -> None: ...
    def begin_delivery(self, lease_id: str, attempt: int, node_id: str, report: FrameReport) -> Incoming | None: ...
    def finish_delivery(
        self, lease_id: str, attempt: int, node_id: str, report: FrameReport, incoming: Any
    ) -> None: ...
    def fail(self, lease_id: str, attempt: int, node_id: str, report: FailureReport) -> None: ...


class Incoming(Protocol):
    """A picture that arrives in pieces (:class:`coordinator.delivery.spool.Incoming`)."""

    def write(self, chunk: bytes, /) -> None: ...
    def discard(self) -> None: ...


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


#: What is said to a caller that names a node and does not have its secret.
NOT_THAT_NODE = "this is not the secret of the node that is named: a worker that joins anew gets an identity of its own"


class LeaseRoutes:
    """An ASGI application for ``/api/leases/{id}/{start,frame,failure}``; who calls has shown the farm token.

    ``is_node`` judges a node's id and secret; ``statuses`` gives the HTTP status of each error that it and the claims
    raise.
    """

    def __init__(
        self,
        claims: ClaimHandler,
        is_node: Callable[[str, str], bool],
        statuses: Mapping[type[Exception], int],
        pressure: InFlightGauge,
    ) -> None:
        self._claims, self._is_node, self._statuses, self._pressure = claims, is_node, statuses, pressure
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="claims")
        #: Bytes of bodies that are in memory, or will be; the event loop's, as what follows.
        self._held_bytes = 0
        #: Lease → its long bodies that are arriving.
        self._arriving: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            status, body = 200, await self._answer(request)
        except RequestRefused as refused:
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
        if (request.method, act) not in ACTS:
            raise RequestRefused(404, "a node may POST start, PUT frame or POST failure of a lease")
        claim = self._claim_of(request, query)
        if act == "start":
            return await self._start(lease_id, claim)
        if act == "frame":
            return await self._frame(lease_id, claim, _read(_Frame, query), request)
        return await self._failure(lease_id, claim, request)

    def _claim_of(self, request: Request, query: Mapping[str, str]) -> _Claim:
        """What the query claims, once the caller has shown that it is the node it names."""
        claim = _read(_Claim, query)
        if not proves_node(request, claim.node, self._is_node):
            raise RequestRefused(403, NOT_THAT_NODE)
        return claim

    async def _start(self, lease_id: str, claim: _Claim) -> bytes:
        answer = await self._in_a_thread(self._claims.start, lease_id, claim.attempt, claim.node, claim.claim)
        return to_json(answer).encode()

    async def _frame(self, lease_id: str, claim: _Claim, frame: _Frame, request: Request) -> bytes:
        delivery = (lease_id, claim.attempt, claim.node, FrameReport(**vars(frame)))
        length = _length(request, MAX_IN_MEMORY + 1)
        if length <= MAX_IN_MEMORY and self._held_bytes + length <= MAX_HELD_BYTES:
            with self._holding(length):
                body = await _body(request, MAX_IN_MEMORY)
                await self._in_a_thread(self._claims.deliver, *delivery, iter([body]))
        else:
            with self._one_of_few(lease_id):
                await self._receive(delivery, request)
        return _text(verdict="taken")

    async def _receive(self, delivery: _Delivery, request: Request) -> None:
        """A long body goes to the disk as it comes: a thread works when a piece is here, and never waits for one."""
        incoming = await self._in_a_thread(self._claims.begin_delivery, *delivery)
        if incoming is None:
            return
        try:
            piece = bytearray()
            async for chunk in _chunks(request):
                piece += chunk
                if len(piece) >= MAX_IN_MEMORY:
                    await self._in_a_thread(incoming.write, bytes(piece))
                    piece.clear()
            await self._in_a_thread(incoming.write, bytes(piece))
            await self._in_a_thread(self._claims.finish_delivery, *delivery, incoming)
        finally:
            incoming.discard()

    async def _failure(self, lease_id: str, claim: _Claim, request: Request) -> bytes:
        length = _length(request, MAX_JSON_BYTES)
        if self._held_bytes + length > MAX_HELD_BYTES:
            raise RequestRefused(503, "too many reports come at once; send it again in a moment")
        with self._holding(length):
            try:
                report = from_json(FailureReport, await _body(request, MAX_JSON_BYTES))
                _read(_Figures, {"render_s": report.render_s, "memory_kb": report.memory_kb})
            except MalformedContract as error:
                raise RequestRefused(422, str(error)) from None
            await self._in_a_thread(self._claims.fail, lease_id, claim.attempt, claim.node, report)
        return _text(verdict="noted")

    @contextlib.contextmanager
    def _holding(self, size: int) -> Generator[None]:
        """So many bytes of a body may be in memory meanwhile."""
        self._held_bytes += size
        try:
            yield
        finally:
            self._held_bytes -= size

    @contextlib.contextmanager
    def _one_of_few(self, lease_id: str) -> Generator[None]:
        if self._arriving[lease_id] >= DELIVERIES_OF_A_LEASE:
            raise RequestRefused(503, "this frame is arriving already; send it again in a moment")
        self._arriving[lease_id] += 1
        try:
            yield
        finally:
            self._arriving[lease_id] -= 1
            if not self._arriving[lease_id]:
                del self._arriving[lease_id]

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
        raise RequestRefused(422, str(error)) from None


def _length(request: Request, unknown: int) -> int:
    """Bytes of the body as announced."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else unknown


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in _chunks(request):
        body += chunk
        if len(body) > limit:
            raise RequestRefused(413, f"more than {limit} bytes")
    return bytes(body)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. How slowly it may is in :mod:`sheepfold.serving.connection_limits`."""
    stream = request.stream()
    while True:
        async with asyncio.timeout(STALLED_AFTER_S):
            chunk = await anext(stream, None)
        if chunk is None:
            return
        yield chunk


#: What a broken-off body raises here, with the status a node reads as "send it again".
BROKEN_OFF: dict[type[Exception], int] = {ClientDisconnect: 400, TimeoutError: 408}
