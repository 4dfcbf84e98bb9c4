"""Connections to Redis that hold no more than one message of bounded size, however long it is there.

redis-py reads a value whole before anybody can look at it. Here one that is too long is read and thrown away piece by
piece, and an empty value is seen in its place.
"""

from __future__ import annotations

from typing import Any

import redis
from redis._parsers.resp2 import _RESP2Parser  # pyright: ignore[reportPrivateUsage]
from redis._parsers.socket import SocketBuffer
from redis.utils import SENTINEL

from sheepfold.contract.broker_messages import MAX_MESSAGE_BYTES

_DISCARDED_AT_ONCE = 64 * 1024


class BoundedBuffer(SocketBuffer):
    """Reads values of up to :data:`MAX_MESSAGE_BYTES`; a longer one is read as ``b""``."""

    _buffer: Any

    def read(self, length: int, timeout: float | object = SENTINEL) -> bytes:
        """The next value of the answer; ``timeout`` in seconds."""
        if length <= MAX_MESSAGE_BYTES:
            return super().read(length, timeout=timeout)
        self._discard(length + len(b"\r\n"), timeout)
        return b""

    def _discard(self, left: int, timeout: float | object) -> None:
        while left:
            read = len(self._buffer.read(min(left, _DISCARDED_AT_ONCE)))
            left -= read
            if not read:
                self._buffer.seek(0)
                self._buffer.truncate()
                self._read_from_socket(timeout=timeout)


class BoundedParser(_RESP2Parser):
    """Reads answers of Redis by way of a :class:`BoundedBuffer`."""

    _buffer: Any
    socket_read_size: int

    def on_connect(self, connection: Any) -> None:
        """redis-py calls this for every new socket."""
        super().on_connect(connection)  # pyright: ignore[reportUnknownMemberType]
        self._buffer = BoundedBuffer(connection._sock, self.socket_read_size, connection.socket_timeout)  # noqa: SLF001


class BoundedConnection(redis.Connection):
    """Without TLS, as in a ``redis://`` URL; a value that is too long is read as empty."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **_bounded(options))  # pyright: ignore[reportUnknownMemberType]


class BoundedTlsConnection(redis.SSLConnection):
    """With TLS, as in a ``rediss://`` URL; bounded as :class:`BoundedConnection` is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **_bounded(options))  # pyright: ignore[reportUnknownMemberType]


def _bounded(options: dict[str, Any]) -> dict[str, Any]:
    # redis-py 7 and later: only its own parsers know these notifications, and no Redis of a farm sends them.
    quiet = {"maint_notifications_config": None} if "maint_notifications_config" in options else {}
    return {**options, **quiet, "parser_class": BoundedParser, "protocol": 2}
