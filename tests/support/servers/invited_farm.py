"""A coordinator's TLS side without a farm behind it: an authority, invitations, and every request that it was sent."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from coordinator.api.callers import node_shown
from coordinator.api.joining_routes import JOINING_STATUS, add_joining_paths
from coordinator.certificates.farm_authority import FarmAuthority
from coordinator.certificates.invitations import Invitations
from coordinator.certificates.node_certificates import NodeCertificates
from coordinator.runtime.http_server import UvicornThread
from sheepfold.serving.tls_or_plain import TlsRules


class InvitedFarm:
    """Serves the joining routes on a free port of the loopback. A context manager."""

    def __init__(self, folder: Path, *, shown_authority: bytes | None = None) -> None:
        """``shown_authority``: what it pretends its authority to be."""
        self.authority = FarmAuthority(folder / "tls", lambda: ["127.0.0.1"])
        self.authority.open()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.invitations = Invitations()
        self.certificates = NodeCertificates(self.authority, self.invitations, self, lambda: f"127.0.0.1:{self.port}")
        #: Node ids that are another PC's.
        self.taken: set[str] = set()
        #: Method, path, node whose certificate was shown, and body of each request.
        self.requests: list[tuple[str, str, str, bytes]] = []
        self._shown_authority = shown_authority
        self._app = self._make_app()

        async def served(scope: Scope, receive: Receive, send: Send) -> None:  # uvicorn takes no method for one
            await self._noting(scope, receive, send)

        tls = TlsRules(context=self.authority.server_context)
        self._server = UvicornThread(served, "127.0.0.1", self.port, tls=tls).bind()

    def is_taken(self, node_id: str, secret: str) -> bool:
        return node_id in self.taken

    def is_revoked(self, node_id: str) -> bool:
        return False

    @property
    def line(self) -> str:
        """Another invitation."""
        return self.certificates.invite().line

    def __enter__(self) -> InvitedFarm:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    def _make_app(self) -> FastAPI:
        from fastapi.responses import JSONResponse, PlainTextResponse

        app = FastAPI()
        if self._shown_authority is not None:
            app.add_route("/farm-ca.pem", lambda _: PlainTextResponse(self._shown_authority))
        add_joining_paths(app, self.certificates)
        for kind, status in JOINING_STATUS.items():
            app.add_exception_handler(
                kind, lambda _, error, status=status: JSONResponse({"detail": str(error)}, status)
            )
        return app

    async def _noting(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.requests.append((scope["method"], scope["path"], node_shown(Request(scope)), body))
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return left.pop() if left else {"type": "http.disconnect"}

        await self._app(scope, again, send)


def secrets_in(requests: list[tuple[str, str, str, bytes]], *secrets: Any) -> list[str]:
    """Which of the secrets somebody was told."""
    everything = b" ".join(f"{method} {path} {node}".encode() + body for method, path, node, body in requests)
    return [secret for secret in secrets if secret.encode() in everything]
