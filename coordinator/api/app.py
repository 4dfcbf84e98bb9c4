"""The LAN's HTTP side: nodes join, ask for archives, start, deliver or fail a lease; operators read status and metrics.

Paths and messages are those of :mod:`sheepfold.contract.api_messages`. Who may call which is in the table of
:mod:`coordinator.access.routes` and nowhere here: :class:`coordinator.api.access_guard.AccessGuard` stands before all
of it. This file only speaks HTTP; what a claim means is decided in :mod:`coordinator.delivery.claims`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import anyio
import anyio.to_thread
import msgspec
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.access.password_check import PasswordCheck
from coordinator.access.roles import Role
from coordinator.archives.errors import ManifestUnderWay
from coordinator.delivery.errors import BadName, BrokenPicture, CutOff, NotYourLease, StaleClaim
from coordinator.jobs.blocks import JobBlock
from coordinator.jobs.control import Stopped
from coordinator.jobs.errors import UnknownJob
from coordinator.leases.errors import LedgerError
from coordinator.nodes.errors import BrokerUnreachable, NodeRevoked, TooManyJoins, TooManyNodes, UnknownNode
from coordinator.nodes.revocation import Revoked
from coordinator.scheduling.backpressure import InFlightGauge
from sheepfold.contract.api_messages import (
    CONTRACT_VERSION,
    ArchiveManifest,
    ArchiveSources,
    JoinAnswer,
    JoinRequest,
    archive_key,
)
from sheepfold.contract.codec import to_json
from sheepfold.contract.orders import MD5_NAME
from sheepfold.errors import DiskFull, TooLarge
from sheepfold.limited.errors import ChildUnavailable
from sheepfold.serving.origins import PageGuard

from .access_guard import AccessGuard
from .callers import node_shown, proves_node
from .joining_routes import JOINING_STATUS, Certificates, add_joining_paths
from .lease_routes import BROKEN_OFF, NOT_THAT_NODE, ClaimHandler, LeaseRoutes
from .messages import message_of
from .tokens import TokenCheck

_PAGE = Path(__file__).parents[1] / "dashboard" / "index.html"
#: The page is one file; nothing from elsewhere runs or is shown in it.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: A worker that keeps two thousand frames says what it is in half of this.
MAX_JOIN_BYTES = 256 * 1024
#: What a node reads off the status: 403 it is none of its leases, 409 drop it, 422 the attempt failed, anything else:
#: keep it and try again.
_HTTP_STATUS: dict[type[Exception], int] = {
    NotYourLease: 403,
    StaleClaim: 409,
    BrokenPicture: 422,
    BadName: 422,
    TooLarge: 422,
    CutOff: 400,
    **BROKEN_OFF,
    DiskFull: 507,
    LedgerError: 507,
    BrokerUnreachable: 503,
    TooManyJoins: 429,
    TooManyNodes: 503,
    NodeRevoked: 403,
    UnknownJob: 404,
    UnknownNode: 404,
    ManifestUnderWay: 503,
    ChildUnavailable: 503,
    **JOINING_STATUS,
}
#: What is said to a node that shows another one's certificate.
NOT_ITS_CERTIFICATE = "this certificate is another node's: a copied work folder has to be invited by itself"
_NodeId = Annotated[str, Query(pattern="^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$")]
_NodeUrl = Annotated[str, Query(max_length=300)]
_Ask = Callable[[str, str, str, str], object]


class ArchiveAnswers(Protocol):
    """What nodes ask about archives (:class:`coordinator.archives.tracker.ArchiveTracker`)."""

    def plan(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchiveManifest | None: ...
    def sources(self, md5: str, node_id: str, node_url: str, reached_by: str) -> ArchiveSources | None: ...


class Nodes(Protocol):
    """Admits nodes (:class:`coordinator.nodes.admission.NodeAdmission`); ``reached_by`` is our host name for them."""

    def join(self, wish: JoinRequest, reached_by: str, address: str, /) -> JoinAnswer: ...
    def is_node(self, node_id: str, secret: str, /) -> bool: ...


class FlowerLogins(Protocol):
    """Gives Flower its own login at Redis (:class:`coordinator.broker.redis_users.RedisUsers`)."""

    def flower_login(self, reached_by: str, /) -> str: ...


class Revocation(Protocol):
    """Turns nodes out of the farm (:class:`coordinator.nodes.revocation.NodeRevocation`)."""

    def revoke(self, name: str, /) -> list[Revoked]: ...


class Operator(Protocol):
    """What operators read and ask for (:class:`coordinator.api.operator_service.OperatorService`)."""

    def status(self) -> dict[str, Any]: ...
    def ask_now(self) -> list[dict[str, Any]]: ...
    def release(self, name: str, /) -> bool: ...
    def log(self, job: str, frame: str, /) -> object | None: ...


class Jobs(Protocol):
    """What operators do to a job or one frame of it (:class:`coordinator.jobs.control.JobControl`)."""

    def cancel(self, job: str, frame: str | None, /) -> list[Stopped]: ...
    def unblock(self, job: str, frame: str | None, /) -> list[JobBlock]: ...


@dataclass(frozen=True, kw_only=True)
class ApiServices:
    """What answers the calls of the LAN API."""

    farm_token: str
    #: Of each role of people; without them there are no people.
    passwords: Mapping[Role, str] = field(default_factory=dict[Role, str])
    #: Whether a worker on another machine joins by the farm token alone.
    tokens_from_elsewhere: bool = True
    certificates: Certificates
    claims: ClaimHandler
    nodes: Nodes
    archives: ArchiveAnswers
    operator: Operator
    flower: FlowerLogins
    revocation: Revocation
    jobs: Jobs
    metrics: CollectorRegistry
    #: Knows how many nodes wait for an answer about a lease.
    pressure: InFlightGauge = field(default_factory=InFlightGauge)


def create_api(parts: ApiServices) -> ASGIApp:
    """The LAN API as one application; what starts with ``/api/leases/`` goes past FastAPI to :class:`LeaseRoutes`."""

    def is_node(node_id: str, secret: str) -> bool:
        return parts.nodes.is_node(node_id, secret)

    app = fastapi_routes(parts)
    leases = LeaseRoutes(parts.claims, is_node, _HTTP_STATUS, parts.pressure)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        to_leases = scope["type"] == "http" and scope["path"].startswith("/api/leases/")
        await (leases if to_leases else app)(scope, receive, send)

    passwords = PasswordCheck(parts.passwords, parts.farm_token)
    guard = AccessGuard(
        serve, TokenCheck(parts.farm_token), passwords, tokens_from_elsewhere=parts.tokens_from_elsewhere
    )
    return PageGuard(guard)


def fastapi_routes(parts: ApiServices) -> FastAPI:
    """Every route but the leases', open to everybody: what may be called is judged before."""
    app = FastAPI(title="sheepfold LAN API", docs_url=None, redoc_url=None)
    _add_open_paths(app)
    add_joining_paths(app, parts.certificates)
    _add_node_paths(app, parts)
    _add_operator_paths(app, parts)
    _add_reading_paths(app, parts)
    for kind, code in _HTTP_STATUS.items():
        app.add_exception_handler(kind, functools.partial(_refusal, code))
    return app


def _add_open_paths(app: FastAPI) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the coordinator answers at all."""
        return {"status": "ok"}


def _add_node_paths(app: FastAPI, parts: ApiServices) -> None:
    @app.post("/api/join")
    async def join(request: Request) -> Response:
        asked = await message_of(request, JoinRequest, MAX_JOIN_BYTES)
        if node_shown(request) not in ("", asked.node_id):
            raise HTTPException(403, NOT_ITS_CERTIFICATE)
        if asked.contract_version != CONTRACT_VERSION:
            older = "worker" if asked.contract_version < CONTRACT_VERSION else "coordinator"
            spoken = f"this coordinator speaks version {CONTRACT_VERSION}, the worker {asked.contract_version}"
            raise HTTPException(426, f"{spoken}: update sheepfold on the {older}'s machine")
        host, address = request.url.hostname or "", request.client.host if request.client else ""
        answer = await anyio.to_thread.run_sync(parts.nodes.join, asked, host, address)
        return _json(replace(answer, archive_key=archive_key(parts.farm_token)))

    @app.get("/api/archives/{md5}")
    def archive(md5: str, request: Request, node: _NodeId, url: _NodeUrl = "") -> Response:
        _check_is_node(parts, node, request)
        return _archive_answer(parts.archives.plan, md5, node, url, request)

    @app.get("/api/archives/{md5}/sources")
    def sources(md5: str, request: Request, node: _NodeId, url: _NodeUrl = "") -> Response:
        _check_is_node(parts, node, request)
        return _archive_answer(parts.archives.sources, md5, node, url, request)


def _check_is_node(parts: ApiServices, node_id: str, request: Request) -> None:
    if not proves_node(request, node_id, parts.nodes.is_node):
        raise HTTPException(403, NOT_THAT_NODE)


def _archive_answer(ask: _Ask, md5: str, node: str, url: str, request: Request) -> Response:
    found = ask(md5, node, url, request.url.hostname or "") if MD5_NAME.fullmatch(md5) else None
    if found is None:
        raise HTTPException(404, "the coordinator does not hold this archive")
    return _json(found)


def _add_operator_paths(app: FastAPI, parts: ApiServices) -> None:
    @app.post("/api/cancel")
    def cancel(job: str, frame: str | None = None) -> dict[str, Any]:
        """Blocks a job, or a frame of it, and ends its leases; what became of each job of that number or name."""
        return {"cancelled": [asdict(stopped) for stopped in parts.jobs.cancel(job, frame)]}

    @app.post("/api/unblock")
    def unblock(job: str, frame: str | None = None) -> dict[str, Any]:
        """Ends the blocks of a job or a frame; which they were."""
        return {"unblocked": [asdict(block) | {"label": block.label} for block in parts.jobs.unblock(job, frame)]}

    @app.post("/api/ask")
    def ask() -> dict[str, Any]:
        """Has the server asked for frames now; one entry for each session."""
        return {"sessions": parts.operator.ask_now()}

    @app.post("/api/nodes/{name}/release")
    def release(name: str) -> dict[str, bool]:
        """Ends the quarantine or the pause of a PC and forgets its strikes; whether it had any."""
        return {"released": parts.operator.release(name)}

    @app.post("/api/nodes/{name}/revoke")
    def revoke(name: str) -> dict[str, Any]:
        """Turns a PC out of the farm for good, and gives its frames to others; which nodes had that name or id."""
        return {"revoked": [asdict(revoked) for revoked in parts.revocation.revoke(name)]}

    @app.get("/api/broker")
    def broker(request: Request) -> dict[str, str]:
        """Where Redis is, with Flower's own login: it may read events and ask nodes whether they live."""
        return {"redis_url": parts.flower.flower_login(request.url.hostname or "")}


def _add_reading_paths(app: FastAPI, parts: ApiServices) -> None:
    @app.get("/")
    def page() -> FileResponse:
        """The page for operators: it shows what `GET /api/status` tells and asks again by itself."""
        return FileResponse(_PAGE, headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": "no-store"})

    @app.get("/api/status")
    def status() -> Response:
        """Sessions, frames, PCs and what needs attention, as `sheepfold status --json` prints it."""
        return Response(msgspec.json.encode(parts.operator.status()), media_type="application/json")

    @app.get("/api/log")
    def frame_log(job: str, frame: str) -> Response:
        """The renderer's output of the last failed attempt of a frame; 404: none is known."""
        found = parts.operator.log(job, frame)
        if found is None:
            raise HTTPException(404, f"no failure of frame {frame[:20]} of job {job[:100]} is known")
        return _json(found)

    @app.get("/metrics")
    def metrics() -> Response:
        """The farm's figures in the text format of Prometheus, see [Metrics](metrics.md)."""
        return PlainTextResponse(generate_latest(parts.metrics), media_type=CONTENT_TYPE_LATEST)


async def _refusal(code: int, _request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, code)


def _json(message: object) -> Response:
    return Response(to_json(message), media_type="application/json")
