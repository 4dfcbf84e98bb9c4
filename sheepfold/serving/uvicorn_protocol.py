"""uvicorn's HTTP protocol under :mod:`sheepfold.serving.connection_limits`; uvicorn limits idle connections only."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .connection_limits import Connection, ConnectionLimits, ConnectionRules, Phase
from .tls_or_plain import TlsOrPlain, TlsRules

#: Key of a request's state: the certificate that its sender showed, as ``getpeercert`` gives it; missing: none.
CLIENT_CERTIFICATE = "client_certificate"


def guarded_protocol(rules: ConnectionRules | None = None, tls: TlsRules | None = None) -> type[asyncio.Protocol]:
    """For ``uvicorn.Config(http=…)``: a protocol for the connections of one server, which share their limits.

    Without ``tls`` all of them are plain HTTP.
    """
    limits = ConnectionLimits(rules)

    class Guarded(_GuardedProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.limits = limits

    if tls is None:
        return Guarded

    class Opening(TlsOrPlain):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(functools.partial(Guarded, *args, **kwargs), tls, limits)

    return Opening


class _GuardedProtocol(HttpToolsProtocol):
    limits: ConnectionLimits
    _connection: Connection
    #: The certificate that the client showed, verified; ``None``: none.
    _client: dict[str, Any] | None = None
    #: The request that came last has come to its end.
    _is_whole = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._connection = self.limits.opened(transport)
        self._connection.unread = lambda: self.flow.read_paused
        self._client = transport.get_extra_info("peercert")

    def connection_lost(self, exc: Exception | None) -> None:
        self.limits.closed(self._connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # An empty line, too: it is no request, and uvicorn no longer waits for the end of the pause.
        self._begin_head()
        super().data_received(data)
        self.limits.took(self._connection, len(data))

    def on_message_begin(self) -> None:
        self._begin_head()
        super().on_message_begin()
        if self._client:
            self.scope.setdefault("state", {})[CLIENT_CERTIFICATE] = self._client

    def _begin_head(self) -> None:
        if self._connection.phase is Phase.IDLE:
            self._connection.enter(Phase.HEAD)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if self._connection.phase is not Phase.HEAD:  # behind a body
            self._connection.head_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_whole = False
        self._connection.enter(Phase.BODY)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_whole = True
        # After an answer that came early the next head may come at once: uvicorn ends no such pause.
        self._connection.enter(Phase.HEAD if self.cycle.response_complete else Phase.ANSWER)

    def on_response_complete(self) -> None:
        waits = Phase.ANSWER if self.pipeline else Phase.IDLE
        self._connection.enter(waits if self._is_whole else Phase.REST)
        super().on_response_complete()
