"""Which page sent a request: a change that a browser makes for another site's page is refused.

A browser adds the login it knows, or the cookie, to whatever a foreign page makes it send. It says whose page that was
in ``Origin``, else in ``Referer``; ``Sec-Fetch-Site`` is sent to loopback and over https alone. A client that is no
browser sends none of the three, and is judged by its credentials.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: What a method of these does is only to read, by HTTP's own rule.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Every answer has these, unless it brings its own: what it is called is what it is, no other page shows it inside
#: itself, nothing in it runs, and no other site is told what stands in its address.
SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
)
_REFUSAL = b'{"detail": "a page of another site may not do this"}'
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_foreign(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a browser sent the request for a page of another site.

    ``headers`` as ASGI has them, names in small letters.
    """
    by_name = {name: value.decode("latin-1") for name, value in headers}
    if by_name.get(b"sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    page = by_name.get(b"origin") or by_name.get(b"referer")
    return page is not None and not _is_served_at(page, by_name.get(b"host", ""))


def _is_served_at(page: str, host: str) -> bool:
    """Whether the page's address has this host and port; the scheme is that of whatever stands before us."""
    try:
        origin, own = urlsplit(page), urlsplit(f"//{host}")
        default = _DEFAULT_PORTS.get(origin.scheme)
        same_port = (origin.port or default) == (own.port or default)
    except ValueError:
        return False
    return origin.hostname is not None and origin.hostname == own.hostname and same_port


class PageGuard:
    """An ASGI layer: a change for a page of another site is answered 403, and every answer has the headers above.

    ``changed_by_reading``: beginnings of paths where even a GET changes something.
    """

    def __init__(self, app: ASGIApp, *, changed_by_reading: tuple[str, ...] = ()) -> None:
        self._app, self._changed_by_reading = app, changed_by_reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                known = {name.lower() for name, _ in headers}
                headers += [header for header in SECURITY_HEADERS if header[0] not in known]
                if (
                    message["status"] == 401 and b"connection" not in known
                ):  # whoever shows no token keeps no connection
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        if self._changes(scope) and is_foreign(scope["headers"]):
            await _refuse(send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _changes(self, scope: Scope) -> bool:
        return scope["method"] not in SAFE_METHODS or scope["path"].startswith(self._changed_by_reading)


async def _refuse(send: Send) -> None:
    # The body that may follow is not read: the connection ends.
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
