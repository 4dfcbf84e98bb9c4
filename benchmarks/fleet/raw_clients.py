"""Connections for thousands of simulated nodes: Redis and HTTP on asyncio's protocols, as little as it takes.

Nothing here is for a farm: no retries, no chunked bodies, no encryption, and a peer that is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import hiredis


class RedisLine(asyncio.Protocol):
    """One connection to Redis; answers come in the order of the commands."""

    def __init__(self, on_push: Callable[[Any], None] | None = None) -> None:
        self._reader = hiredis.Reader()
        self._waiting: list[asyncio.Future[Any]] = []
        self._on_push = on_push

    @classmethod
    async def open(cls, url: str, on_push: Callable[[Any], None] | None = None) -> RedisLine:
        parts = urlsplit(url)
        _, line = await asyncio.get_running_loop().create_connection(
            lambda: cls(on_push), parts.hostname, parts.port or 6379
        )
        if parts.password:
            await line.call("AUTH", parts.username or "default", parts.password)
        return line

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            if self._waiting:
                self._waiting.pop(0).set_result(answer)
            elif self._on_push:
                self._on_push(answer)

    def call(self, *words: object) -> asyncio.Future[Any]:
        """A command; its answer, which may be an error object."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._transport.write(hiredis.pack_command(tuple(map(str, words))))
        return done


class HttpLine(asyncio.Protocol):
    """One kept-alive connection to the coordinator's LAN API."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.is_open = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def hang_up(self) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError("the coordinator closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or not self._answer:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) >= end + 4 + size:
            body = bytes(self._buffer[end + 4 : end + 4 + size])
            self._buffer.clear()
            self._answer.set_result((int(head[9:12]), body))

    def call(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer


class HttpLines:
    """A node's connections to one server: as many as it uses at once."""

    def __init__(self, url: str, token: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._head = f" HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n{more}"
        self._free: list[HttpLine] = []

    def close(self) -> None:
        """Hangs up."""
        for line in self._free:
            line.hang_up()

    async def call(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        while self._free and not self._free[-1].is_open:
            self._free.pop()
        if self._free:
            line = self._free.pop()
        else:
            _, line = await asyncio.get_running_loop().create_connection(HttpLine, *self._address)
        head = f"{method} {path}{self._head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = await line.call(head.encode() + body)
        self._free.append(line)
        return answer
