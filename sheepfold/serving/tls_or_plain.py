"""TLS and plain HTTP at one port: the first byte of a connection tells which of them it is.

A connection counts from its first moment, and its handshake is part of the time and number that
:mod:`sheepfold.serving.connection_limits` gives the head of a request. Plain is for this machine, where nobody listens
in, and for other machines only where the operator says so; anybody else is told to come over TLS.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from dataclasses import dataclass

from .connection_limits import Connection, ConnectionLimits

log = logging.getLogger(__name__)

#: How a handshake begins (TLS record of that type); no HTTP method does.
_HANDSHAKE = 0x16
#: A client that was told good-bye has this long to answer (seconds).
_SHUTDOWN_S = 2
_REFUSAL_TEXT = b'{"detail": "plain HTTP is answered on this machine alone: use https, see sheepfold node invite"}'
_REFUSAL = (
    b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_REFUSAL_TEXT), _REFUSAL_TEXT)
)


@dataclass(frozen=True, kw_only=True)
class TlsRules:
    """How a server's connections are secured."""

    #: Asked for each connection: what it gives may not be there before the server starts.
    context: Callable[[], ssl.SSLContext]
    #: Whether plain HTTP is answered to other machines, too.
    plain_everywhere: bool = False


class TlsOrPlain(asyncio.Protocol):
    """Hands a connection over to what ``make`` gives, once it is clear how it is secured."""

    def __init__(self, make: Callable[[], asyncio.Protocol], tls: TlsRules, limits: ConnectionLimits) -> None:
        self._make, self._tls, self._limits = make, tls, limits
        self._transport: asyncio.Transport
        self._connection: Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._transport, self._connection = transport, self._limits.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._limits.closed(self._connection)

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if data[0] == _HANDSHAKE:
            self._begin_tls(data)
        elif self._tls.plain_everywhere or is_same_machine(self._transport):
            self._begin_plain(data)
        else:
            log.debug("%s speaks plain HTTP and is refused", self._connection.address)
            self._transport.write(_REFUSAL)
            self._transport.close()

    def _begin_plain(self, data: bytes) -> None:
        inner = self._make()
        self._transport.set_protocol(inner)
        with self._limits.continuing(self._connection):
            inner.connection_made(self._transport)
        inner.data_received(data)

    def _begin_tls(self, data: bytes) -> None:
        loop, head_s = asyncio.get_running_loop(), max(1, round(self._limits.rules.head_s))
        shaken = loop.create_future()
        shaken.add_done_callback(self._after_handshake)
        secured = _Secured(self._make, self._limits, self._connection)
        tls = SSLProtocol(
            loop,
            secured,
            self._tls.context(),
            shaken,
            server_side=True,
            ssl_handshake_timeout=head_s,
            ssl_shutdown_timeout=_SHUTDOWN_S,
        )
        self._transport.set_protocol(tls)
        tls.connection_made(self._transport)
        for start in range(0, len(data), tls.max_size):
            piece = data[start : start + tls.max_size]
            tls.get_buffer(len(piece))[: len(piece)] = piece
            tls.buffer_updated(len(piece))

    def _after_handshake(self, shaken: asyncio.Future[None]) -> None:
        """Whoever failed is forgotten here: the protocol that would tell of its end never began."""
        if shaken.cancelled() or shaken.exception() is not None or not self._connection.is_secured:
            self._limits.closed(self._connection)


class _Secured(asyncio.Protocol):
    """Is told that a handshake is done, and steps aside for the HTTP protocol."""

    def __init__(self, make: Callable[[], asyncio.Protocol], limits: ConnectionLimits, connection: Connection) -> None:
        self._make, self._limits, self._connection = make, limits, connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        inner = self._make()
        transport.set_protocol(inner)
        self._connection.is_secured = True
        with self._limits.continuing(self._connection):
            inner.connection_made(transport)


def is_same_machine(transport: asyncio.BaseTransport) -> bool:
    """Whether both ends of a connection are on this machine: what they say never leaves it."""
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not peer or not own:
        return True  # no network connection
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or peer[0] == own[0]
