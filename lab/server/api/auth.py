"""Who may use the JSON side, and what its refusals look like: one line of JSON, never a traceback."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lab.errors import BadForm, LabError, NotAllowed, NotNow, UnknownProject
from lab.server.services import LabServices
from sheepfold.errors import NotAPicture
from sheepfold.limited.errors import ChildUnavailable
from sheepfold.serving.errors import TooManyGuesses

Handler = Callable[[Request], Awaitable[Response]]


class OwnerAuth:
    """HTTP basic authentication with the owner's account."""

    def __init__(self, services: LabServices) -> None:
        self._services = services

    def guarded(self, handler: Handler, *, owner_only: bool) -> Handler:
        """The handler behind authentication, with every error of ours as one line of JSON."""

        async def guard(request: Request) -> Response:
            try:
                if owner_only or not self._services.settings.open_to_look:
                    await self.authenticate(request)
                return await handler(request)
            except (LabError, NotAPicture, ChildUnavailable, TooManyGuesses) as error:
                return refusal_of(error)

        return guard

    async def authenticate(self, request: Request) -> None:
        """The login has to be the owner's; raises :class:`NotAllowed`."""
        login, password = _basic(request.headers.get("authorization", ""))
        account = await self._services.check_password(login, password) if login else None
        if account is None or not account.is_owner:
            raise NotAllowed("this needs login and password of the server's owner")


def refusal_of(error: LabError | NotAPicture | ChildUnavailable | TooManyGuesses) -> Response:
    """An error of ours as an HTTP answer."""
    status = 400
    if isinstance(error, NotAllowed):
        challenge = {"www-authenticate": 'Basic realm="sheepfold", charset="UTF-8"'}
        return JSONResponse({"detail": str(error)}, status_code=401, headers=challenge)
    if isinstance(error, (UnknownProject, NotAPicture)):
        status = 404
    elif isinstance(error, NotNow):
        status = 409
    elif isinstance(error, TooManyGuesses):
        retry = {"retry-after": error.retry_after}
        return JSONResponse({"detail": str(error)}, status_code=429, headers=retry)
    elif isinstance(error, ChildUnavailable):
        status = 503
    elif isinstance(error, BadForm) and error.too_large:
        status = 413
    return JSONResponse({"detail": str(error)}, status_code=status)


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        login, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return login, password
