"""Header names of answers in their canonical capitals: ``Set-Cookie``, ``Content-Type``.

HTTP says that case means nothing, and ASGI and uvicorn write every name in small letters. Original clients until
2018-12 compare ``Set-Cookie`` letter by letter: they never see their session's cookie, sign in, are told to sign in
again, and sleep.

uvicorn calls ``name.lower()`` before it compares a name and writes it. :class:`HeaderName` returns itself there and
compares as if it were in small letters, so uvicorn goes on knowing its headers. Of the two ways that were measured,
this one gives about twice the bare answers a second of ``http="h11"``, which writes names as they come.
"""

from __future__ import annotations

import time
from email.utils import formatdate

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The two that capitals at the start of each word get wrong.
_OWN_SPELLING = {b"etag": b"ETag", b"www-authenticate": b"WWW-Authenticate"}


class HeaderName(bytes):
    """A name that is written as it is, and equal to the same name in small letters."""

    __slots__ = ()

    def lower(self) -> bytes:
        """Itself: uvicorn writes what it gets here."""
        return self

    def __eq__(self, other: object) -> bool:
        return bytes.lower(self) == other

    def __hash__(self) -> int:
        return hash(bytes.lower(self))


def canonical(name: bytes) -> HeaderName:
    """The usual spelling: ``set-cookie`` is ``Set-Cookie``."""
    small = bytes(name).lower()
    return HeaderName(_OWN_SPELLING.get(small) or b"-".join(word.capitalize() for word in small.split(b"-")))


_DATE, _CONNECTION, _TRANSFER_ENCODING = canonical(b"date"), canonical(b"connection"), canonical(b"transfer-encoding")
_TELL_LENGTH = (b"content-length", b"transfer-encoding")


class CanonicalHeaders:
    """The outermost ASGI layer. What uvicorn would add by itself, in small letters, is added here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._names: dict[bytes, HeaderName] = {}
        self._date = (0, b"")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = _Answer(self, scope["method"], send).send
        await self._app(scope, receive, send)

    def spelled(self, name: bytes) -> HeaderName:
        """The canonical form, kept: the names of our own answers are few."""
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = canonical(name)
        return known

    def date(self) -> bytes:
        """The value of ``Date``, made once a second."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]


class _Answer:
    """One answer on its way out."""

    __slots__ = ("_cycle", "_layer", "_method", "_send", "transport")

    def __init__(self, layer: CanonicalHeaders, method: str, send: Send) -> None:
        self._layer = layer
        self._method = method
        self._send = send
        #: What uvicorn holds of this request and its answer.
        self._cycle = getattr(send, "__self__", None)
        #: uvicorn's connection, for whoever has to cut it (``fault_injection.py``).
        self.transport = getattr(self._cycle, "transport", None)

    async def send(self, message: Message) -> None:
        """What the application sends through; only the headers change."""
        if message["type"] == "http.response.start":
            message = {**message, "headers": self._headers(message)}
        await self._send(message)

    def _headers(self, message: Message) -> list[tuple[bytes, bytes]]:
        layer = self._layer
        headers: list[tuple[bytes, bytes]] = [(_DATE, layer.date())]
        knows_length = knows_connection = False
        for name, value in message.get("headers", ()):
            headers.append((layer.spelled(name), value))
            knows_length = knows_length or name in _TELL_LENGTH
            knows_connection = knows_connection or name == b"connection"
        if not knows_length and self._has_body(message["status"]):
            headers.append((_TRANSFER_ENCODING, b"chunked"))
        # uvicorn knows by now whether the client, HTTP/1.0 or a stop of the server ends the connection.
        if not knows_connection and not getattr(self._cycle, "keep_alive", True):
            headers.append((_CONNECTION, b"close"))
        return headers

    def _has_body(self, status: int) -> bool:
        return self._method != "HEAD" and status not in (204, 304)
