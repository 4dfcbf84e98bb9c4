"""How a PC that nobody knows yet becomes one of the farm's, and how it is invited.

The authority is for everybody to read: whoever has its fingerprint knows whether it is the right one. A certificate is
given for an invitation's code, which is all that its caller needs to show.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

from coordinator.certificates.errors import BadInvitation, TooManyInvitations
from coordinator.certificates.node_certificates import InvitationGiven
from sheepfold.contract.api_messages import CertificateAnswer, CertificateRequest
from sheepfold.contract.codec import to_json
from sheepfold.serving.errors import TooManyGuesses
from sheepfold.tls.errors import BadCertificate

from .callers import node_shown
from .messages import message_of
from .tokens import address_of

#: Bytes; a request is a tenth of it.
MAX_REQUEST_BYTES = 16 * 1024
#: HTTP status of what the certificates raise.
JOINING_STATUS: dict[type[Exception], int] = {
    BadInvitation: 403,
    BadCertificate: 422,
    TooManyInvitations: 429,
    TooManyGuesses: 429,
}


class Certificates(Protocol):
    """Invites and signs (:class:`coordinator.certificates.node_certificates.NodeCertificates`)."""

    @property
    def authority(self) -> bytes: ...
    def invite(self) -> InvitationGiven: ...
    def sign(self, wish: CertificateRequest, shown: str, address: str, /) -> CertificateAnswer: ...


def add_joining_paths(app: FastAPI, certificates: Certificates) -> None:
    """Adds them to the LAN API."""

    @app.get("/farm-ca.pem")
    def authority() -> Response:
        """The certificate of the farm's authority; `sheepfold node invite` prints its fingerprint."""
        return PlainTextResponse(certificates.authority, media_type="application/x-pem-file")

    @app.post("/api/certificate")
    async def certificate(request: Request) -> Response:
        """A node's certificate, for an invitation's code or for the one that is shown."""
        wish = await message_of(request, CertificateRequest, MAX_REQUEST_BYTES)
        answer = await anyio.to_thread.run_sync(certificates.sign, wish, node_shown(request), address_of(request))
        return Response(to_json(answer), media_type="application/json")

    @app.post("/api/invitations")
    def invite() -> dict[str, Any]:
        """One line by which one PC joins, within fifteen minutes."""
        return asdict(certificates.invite())
