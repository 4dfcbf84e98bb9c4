"""The LAN's HTTP side: nodes join, ask for archives, start, deliver or fail a lease; operators read status and metrics.

Paths and messages are those of :mod:`render_tasks.contract`. Every path but ``/healthz`` wants the farm token, as a
bearer token or, for a person who reads with a browser, as the password of a login. A browser sends that login along
with whatever another site makes it send, so it opens nothing but reading. This file only speaks HTTP; what a claim
means is decided in :mod:`coordinator.claims`.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import anyio
import anyio.from_thread
import anyio.to_thread
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import ClientDisconnect

from render_tasks.contract import (
    CONTRACT_VERSION,
    MD5_NAME,
    ArchivePlan,
    ArchiveSources,
    FailureReport,
    FrameReport,
    JoinAnswer,
    JoinRequest,
    MalformedContract,
    from_json,
    to_json,
)

from .claims import FrameRejected, StaleClaim
from .disk import DiskFull
from .ledger_file import LedgerError
from .nodes import BrokerDown
from .plans import PlanUnderWay
from .spool import BadName, CutOff, TooLarge

#: A PC that sends nothing for this long is gone; it sends its frame again when it is back.
STALLED_AFTER_S = 60
#: A join or a failure report with its log is far smaller.
MAX_JSON_BYTES = 4 * 1024 * 1024

#: No render takes longer (four months), more memory (a terabyte squared) or more threads; larger figures are damage.
MAX_SECONDS, MAX_KB, MAX_CORES = 10**7, 2**50, 2**20

_BEARER, _LOGIN = HTTPBearer(auto_error=False), HTTPBasic(auto_error=False)
_PAGE = Path(__file__).with_name("dashboard") / "index.html"
#: The page is one file; nothing from elsewhere runs or is shown in it.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'"
)
#: What a node reads off the status: 409 drop it, 422 the attempt failed, anything else: keep it and try again.
_HTTP_STATUS: dict[type[Exception], int] = {
    StaleClaim: 409,
    FrameRejected: 422,
    BadName: 422,
    TooLarge: 422,
    CutOff: 400,
    ClientDisconnect: 400,
    TimeoutError: 408,
    DiskFull: 507,
    LedgerError: 507,
    BrokerDown: 503,
    PlanUnderWay: 503,
}
_NodeId = Annotated[str, Query(pattern="^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$")]
_NodeUrl = Annotated[str, Query(max_length=300)]
_Ask = Callable[[str, str, str, str], object]


class ClaimDesk(Protocol):
    """What a node may say about a lease (:class:`coordinator.claims.Claims`)."""

    def start(self, lease_id: str, attempt: int, node_id: str, claim: str) -> object: ...
    def deliver(
        self, lease_id: str, attempt: int, node_id: str, report: FrameReport, chunks: Iterator[bytes]
    ) -> None: ...
    def fail(self, lease_id: str, attempt: int, node_id: str, report: FailureReport) -> None: ...


class ArchiveAnswers(Protocol):
    """What nodes ask about archives (:class:`coordinator.archive_desk.ArchiveDesk`)."""

    def plan(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchivePlan | None: ...
    def sources(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchiveSources | None: ...


@dataclass(frozen=True, kw_only=True)
class DepotParts:
    """What the depot hands its callers on to."""

    farm_token: str
    claims: ClaimDesk
    #: Admits a node; the second argument is the host name it reached us by, the third its own address.
    join: Callable[[JoinRequest, str, str], JoinAnswer]
    archives: ArchiveAnswers
    status: Callable[[], dict[str, Any]]
    #: Ends leases: job, and one frame of it or ``None`` for all; returns how many.
    cancel: Callable[[str, str | None], int]
    #: Gives a PC a fresh start, by name; false when it has no mark.
    forgive: Callable[[str], bool]
    #: The Redis address as told to somebody who reached us by this host name.
    redis_url: Callable[[str], str]
    metrics: CollectorRegistry


def make_depot(parts: DepotParts) -> FastAPI:
    """The depot's web application."""

    def is_token(given: str) -> bool:
        return hmac.compare_digest(given.encode(), parts.farm_token.encode())

    def token_holder(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if given is None or not is_token(given.credentials):
            raise HTTPException(401, "the farm token is missing or wrong: compare SHEEPFOLD_FARM_TOKEN on both sides")

    def reader(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        login: Annotated[HTTPBasicCredentials | None, Depends(_LOGIN)],
    ) -> None:
        if not (login and is_token(login.password)) and not (bearer and is_token(bearer.credentials)):
            raise HTTPException(
                401,
                "any user name, and the farm token (SHEEPFOLD_FARM_TOKEN) as the password",
                {"WWW-Authenticate": 'Basic realm="sheepfold: the farm token is the password"'},
            )

    app = FastAPI(title="sheepfold depot", docs_url=None, redoc_url=None)
    _add_open_paths(app)
    _add_node_paths(app, parts, Depends(token_holder))
    _add_operator_paths(app, parts, Depends(token_holder))
    _add_reading_paths(app, parts, Depends(reader))
    for kind, code in _HTTP_STATUS.items():
        app.add_exception_handler(kind, functools.partial(_refusal, code))
    return app


def _add_open_paths(app: FastAPI) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}


def _add_node_paths(app: FastAPI, parts: DepotParts, guard: Any) -> None:
    @app.post("/api/join", dependencies=[guard])
    async def join(request: Request) -> Response:
        wish = await _message(request, JoinRequest)
        if wish.contract_version != CONTRACT_VERSION:
            raise HTTPException(
                426,
                f"this coordinator speaks version {CONTRACT_VERSION}, the worker {wish.contract_version}: update it",
            )
        host, address = request.url.hostname or "", request.client.host if request.client else ""
        return _json(await anyio.to_thread.run_sync(parts.join, wish, host, address))

    @app.get("/api/archives/{md5}", dependencies=[guard])
    def archive(md5: str, request: Request, node: _NodeId, url: _NodeUrl = "") -> Response:
        return _archive_answer(parts.archives.plan, md5, node, url, request)

    @app.get("/api/archives/{md5}/sources", dependencies=[guard])
    def sources(md5: str, request: Request, node: _NodeId, url: _NodeUrl = "") -> Response:
        return _archive_answer(parts.archives.sources, md5, node, url, request)

    @app.post("/api/leases/{lease_id}/start", dependencies=[guard])
    def start(lease_id: str, node: str, attempt: int, claim: str = "") -> dict[str, str]:
        parts.claims.start(lease_id, attempt, node, claim)
        return {"verdict": "render it"}

    @app.put("/api/leases/{lease_id}/frame", dependencies=[guard])
    async def frame(
        lease_id: str,
        node: str,
        attempt: int,
        request: Request,
        name: Annotated[str, Query(max_length=255)],
        md5: Annotated[str, Query(pattern="^[0-9a-f]{32}$")],
        render_s: Annotated[float, Query(ge=0, le=MAX_SECONDS, allow_inf_nan=False)],
        memory_kb: Annotated[int, Query(ge=0, le=MAX_KB)],
        cores: Annotated[int, Query(ge=0, le=MAX_CORES)],
    ) -> dict[str, str]:
        report = FrameReport(name=name, md5=md5, render_s=render_s, memory_kb=memory_kb, cores=cores)
        chunks = _chunks_for_a_thread(request.stream())
        await anyio.to_thread.run_sync(parts.claims.deliver, lease_id, attempt, node, report, chunks)
        return {"verdict": "taken"}

    @app.post("/api/leases/{lease_id}/failure", dependencies=[guard])
    async def failure(lease_id: str, node: str, attempt: int, request: Request) -> dict[str, str]:
        report = await _message(request, FailureReport)
        if not 0 <= report.render_s <= MAX_SECONDS or not 0 <= report.memory_kb <= MAX_KB:
            raise HTTPException(422, "render_s or memory_kb is no figure of a render")
        await anyio.to_thread.run_sync(parts.claims.fail, lease_id, attempt, node, report)
        return {"verdict": "noted"}


def _archive_answer(ask: _Ask, md5: str, node: str, url: str, request: Request) -> Response:
    found = ask(md5, node, url, request.url.hostname or "") if MD5_NAME.fullmatch(md5) else None
    if found is None:
        raise HTTPException(404, "the depot does not hold this archive")
    return _json(found)


def _add_operator_paths(app: FastAPI, parts: DepotParts, guard: Any) -> None:
    @app.post("/api/cancel", dependencies=[guard])
    def cancel(job: str, frame: str | None = None) -> dict[str, int]:
        return {"cancelled": parts.cancel(job, frame)}

    @app.post("/api/nodes/{name}/forgive", dependencies=[guard])
    def forgive(name: str) -> dict[str, bool]:
        return {"forgiven": parts.forgive(name)}

    @app.get("/api/broker", dependencies=[guard])
    def broker(request: Request) -> dict[str, str]:
        return {"redis_url": parts.redis_url(request.url.hostname or "")}


def _add_reading_paths(app: FastAPI, parts: DepotParts, guard: Any) -> None:
    @app.get("/", dependencies=[guard])
    def page() -> FileResponse:
        return FileResponse(_PAGE, headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-store"})

    @app.get("/api/status", dependencies=[guard])
    def status() -> dict[str, Any]:
        return parts.status()

    @app.get("/metrics", dependencies=[guard])
    def metrics() -> Response:
        return PlainTextResponse(generate_latest(parts.metrics), media_type=CONTENT_TYPE_LATEST)


async def _refusal(code: int, _request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, code)


def _json(message: object) -> Response:
    return Response(to_json(message), media_type="application/json")


async def _message(request: Request, kind: type[Any]) -> Any:
    body = bytearray()
    with anyio.fail_after(STALLED_AFTER_S):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_JSON_BYTES:
                raise HTTPException(413, f"a {kind.__name__} is never larger than {MAX_JSON_BYTES} bytes")
    try:
        return from_json(kind, bytes(body))
    except MalformedContract as error:
        raise HTTPException(422, str(error)) from None


def _chunks_for_a_thread(stream: AsyncIterator[bytes]) -> Iterator[bytes]:
    """The request's body, read chunk by chunk from inside a worker thread: a large picture is never in memory."""

    async def following() -> bytes | None:
        with anyio.fail_after(STALLED_AFTER_S):
            return await anext(stream, None)

    while (chunk := anyio.from_thread.run(following)) is not None:
        yield chunk
