"""The layer before every route of the LAN API: who calls, and whether the table of routes lets them.

401: nothing was shown, or what was shown is wrong. 403: it is right, and another role is needed. A node shows its
certificate; on this machine, or where that is allowed from elsewhere, the farm token as a bearer token. A person signs
in under a role's name with its password, or shows the password as a bearer token. A browser sends a login along with
whatever another site makes it send, so a login opens nothing but reading.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.access.password_check import BEARER, PasswordCheck
from coordinator.access.roles import Role, may
from coordinator.access.routes import Route, methods_of, route_of
from sheepfold.serving.errors import TooManyGuesses
from sheepfold.serving.origins import SAFE_METHODS

from .callers import JOIN_BY_INVITATION, is_from_here, node_shown
from .errors import RequestRefused
from .tokens import TokenCheck, address_of

_CHALLENGE = 'Basic realm="sheepfold: viewer, operator or admin", charset="UTF-8"'
_UNKNOWN_NODE = "the farm token is missing or wrong: compare SHEEPFOLD_FARM_TOKEN on both sides"
_SIGN_IN = (
    "the password is missing or wrong: sign in as viewer, operator or admin, each with a password of its own "
    "(SHEEPFOLD_VIEWER_PASSWORD and so on, or the files viewer-password and so on of the coordinator's state folder)"
)
_LOGIN_READS = "a login only reads: what changes something wants the password as a bearer token"


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What a request shows of its caller."""

    #: A role's name, or :data:`BEARER`.
    login: str
    secret: bytes


class AccessGuard:
    """An ASGI layer: ``app`` sees only what its caller may ask."""

    def __init__(
        self, app: ASGIApp, tokens: TokenCheck, passwords: PasswordCheck, *, tokens_from_elsewhere: bool = True
    ) -> None:
        """``tokens_from_elsewhere``: whether the farm token makes a node of a worker on another machine."""
        self._app, self._tokens, self._passwords = app, tokens, passwords
        self._tokens_from_elsewhere = tokens_from_elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._judge(Request(scope))
            except RequestRefused as refused:
                await _answer(refused.status, str(refused), refused.headers)(scope, receive, send)
                return
            except TooManyGuesses as error:
                headers = {"Retry-After": error.retry_after, "Connection": "close"}
                await _answer(429, str(error), headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _judge(self, request: Request) -> None:
        """Raises :class:`RequestRefused` or :class:`TooManyGuesses`."""
        path = request.scope["path"]
        route = route_of(request.method, path)
        if route is None:
            allowed = ", ".join(sorted(methods_of(path)))
            raise RequestRefused(405 if allowed else 404, "there is no such thing to ask here", {"Allow": allowed})
        if route.role is Role.NODE:
            self._judge_node(request)
        elif route.role is not Role.ANYBODY:
            self._judge_person(request, route)

    def _judge_node(self, request: Request) -> None:
        if node_shown(request):
            return
        shown = _shown(request)
        token = shown.secret.decode("latin-1") if shown and shown.login == BEARER else ""
        if not token or not self._tokens.is_right(token, address_of(request)):
            raise RequestRefused(401, _UNKNOWN_NODE)
        if not self._tokens_from_elsewhere and not is_from_here(request):
            raise RequestRefused(403, JOIN_BY_INVITATION)

    def _judge_person(self, request: Request, route: Route) -> None:
        shown = _shown(request)
        if shown is None:
            raise RequestRefused(401, _SIGN_IN, {"WWW-Authenticate": _CHALLENGE})
        if shown.login != BEARER and request.method not in SAFE_METHODS:
            raise RequestRefused(401, _LOGIN_READS)
        held = self._passwords.role_of(shown.login, shown.secret, address_of(request))
        if held is None:
            raise RequestRefused(401, _SIGN_IN, {"WWW-Authenticate": _CHALLENGE})
        if not may(held, route.role):
            whose = "the farm token is for nodes" if held is Role.NODE else f"this password is the {held}'s"
            raise RequestRefused(403, f"this needs the role {route.role}: {whose}")


def _shown(request: Request) -> _Shown | None:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text:
        return _Shown(login=BEARER, secret=text.encode("latin-1"))
    if scheme.lower() != "basic":
        return None
    try:
        login, _, password = base64.b64decode(text, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    # A login that is no role's is shown as none, not as a bearer token.
    return _Shown(login=login.decode("utf-8", "replace") or "-", secret=password)


def _answer(status: int, detail: str, headers: dict[str, str]) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, {name: value for name, value in headers.items() if value})
