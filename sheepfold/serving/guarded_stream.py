"""Any library's HTTP protocol under :mod:`sheepfold.serving.connection_limits`, where requests have no bodies."""

from __future__ import annotations

import asyncio

from .connection_limits import Connection, ConnectionLimits, Phase

_BLANK_LINE = b"\r\n\r\n"


class GuardedStream(asyncio.Protocol):
    """Hands everything on to ``inner``, and knows of a request only where its head ends.

    The next one may begin while the last is answered: its head has the same deadline.
    """

    def __init__(self, inner: asyncio.Protocol, limits: ConnectionLimits) -> None:
        self._inner, self._limits = inner, limits
        self._connection: Connection | None = None
        self._end = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._inner.connection_made(transport)
        self._connection = self._limits.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._limits.closed(self._connection)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)
        if self._connection is None:
            return
        if self._connection.phase is not Phase.HEAD:
            self._connection.enter(Phase.HEAD)
        self._limits.took(self._connection, len(data))
        seen, self._end = self._end + data, (self._end + data)[-len(_BLANK_LINE) + 1 :]
        if _BLANK_LINE in seen:
            self._end = seen[seen.rindex(_BLANK_LINE) + len(_BLANK_LINE) :][-len(_BLANK_LINE) + 1 :]
            if not self._end:
                self._connection.enter(Phase.IDLE)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
