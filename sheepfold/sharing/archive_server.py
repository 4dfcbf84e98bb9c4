"""Serves archives to the farm: pieces that are here and right, over HTTP, by ``sendfile``.

The coordinator and every node run one. Whoever asks shows the archive's pass
(:func:`~sheepfold.contract.api_messages.archive_pass`). Bytes that are not in a verified piece never leave, so an
archive may be served while it is still arriving. When too many ask at once they are told so (503): they go elsewhere,
or ask again in a moment; one address has half of the answers at most, so that the other half is there for others. A
client that reads too slowly is cut off, and one that is slow to ask. Own thread, own event loop; the only file here
that imports aiohttp.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from sheepfold.contract.api_messages import PIECES_HEADER, archive_pass
from sheepfold.contract.orders import MD5_NAME
from sheepfold.serving.connection_limits import ConnectionLimits, ConnectionRules, address_of, cut_off
from sheepfold.serving.guarded_stream import GuardedStream
from sheepfold.serving.listening import BACKLOG, listen
from sheepfold.sharing.shared_archive import SharedArchive

from .pieces import to_text

log = logging.getLogger(__name__)

#: Answers sent at the same time: the coordinator serves the whole farm, a node renders at the same time.
COORDINATOR_SENDS_AT_ONCE, NODE_SENDS_AT_ONCE = 32, 8
#: An answer may be so many seconds behind the slowest pace that is accepted.
ANSWER_S, SLOWEST_BYTES_PER_S = 15.0, 100_000
#: After so many bytes it is looked whether a client keeps the pace.
SLICE_BYTES = 1024 * 1024
#: Connections without a request are closed after this (seconds).
IDLE_S = 30.0
#: Answers under way when the server stops (seconds).
GRACE_S = 0.2
#: A node asks one peer over a handful of connections, and many may be behind one router; a request is a few hundred
#: bytes.
RULES = ConnectionRules(head_bytes=16 * 1024, per_address=1024, total=2048)

ArchiveLookup = Callable[[str], SharedArchive | None]


class ArchiveServer:
    """Serves what ``lookup`` has under an MD5: :meth:`bind`, then :meth:`start`, then :meth:`stop`."""

    def __init__(self, lookup: ArchiveLookup, archive_key: str, *, at_once: int, answer_s: float = ANSWER_S) -> None:
        self._lookup, self._key, self._at_once, self._answer_s = lookup, archive_key, at_once, answer_s
        self._socket: socket.socket | None = None
        #: The port it is bound to; 0 before.
        self.port = 0
        #: Bytes of archives that were sent.
        self.bytes_sent = 0
        #: Answers under way, by address.
        self._sending: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archives", daemon=True)

    def bind(self, host: str, port: int) -> ArchiveServer:
        """Takes the port, so that a taken one is told before anything runs; connections wait for :meth:`start`.

        ``host`` may be empty: every interface; port 0: a free one. Raises OSError when nothing can listen there.
        """
        self._socket = listen(host, port)
        self.port = self._socket.getsockname()[1]
        return self

    def start(self) -> ArchiveServer:
        """Serves at the bound port in a thread of its own; returns when it listens."""
        self._thread.start()
        self._ready.wait()
        return self

    def stop(self) -> None:
        """Ends at once; who is cut off asks somebody else."""
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(GRACE_S + 2)
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        self._loop = loop = _loop()
        asyncio.set_event_loop(loop)
        runner = web.AppRunner(self._app(), access_log=None, keepalive_timeout=IDLE_S, shutdown_timeout=GRACE_S)
        listening = None
        try:
            listening = loop.run_until_complete(self._listen(runner))
            self._ready.set()
            loop.run_forever()
        finally:
            self._ready.set()
            if listening is not None:
                listening.close()
            loop.run_until_complete(runner.cleanup())
            loop.close()

    async def _listen(self, runner: web.AppRunner) -> asyncio.Server:
        assert self._socket is not None, "bind() comes first"
        await runner.setup()
        make = runner.server
        assert make is not None, "setup() makes it"
        limits = ConnectionLimits(RULES)
        return await asyncio.get_running_loop().create_server(
            lambda: GuardedStream(make(), limits), sock=self._socket, backlog=BACKLOG
        )

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=1024)
        app.router.add_get("/archives/{md5}", self._archive, allow_head=False)
        app.router.add_get("/archives/{md5}/pieces", self._pieces, allow_head=False)
        return app

    async def _pieces(self, request: web.Request) -> web.StreamResponse:
        text = _said(self._found(request))
        return web.Response(text=text, headers={PIECES_HEADER: text})

    async def _archive(self, request: web.Request) -> web.StreamResponse:
        shared = self._found(request)
        start, end = _wanted(request, shared.size)
        said = {PIECES_HEADER: _said(shared)}
        if not shared.covers(start, end):
            raise web.HTTPRequestRangeNotSatisfiable(headers=said, text="these bytes are not here")
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        address = address_of(transport)
        if self._sending.total() >= self._at_once or self._sending[address] >= max(1, self._at_once // 2):
            raise web.HTTPServiceUnavailable(headers=said, text="too many ask at once")
        self._sending[address] += 1
        try:
            return await self._send(request, transport, _answer(request, shared, start, end), shared, start)
        finally:
            self._sending -= Counter({address: 1})

    async def _send(
        self,
        request: web.Request,
        transport: asyncio.Transport,
        answer: web.StreamResponse,
        shared: SharedArchive,
        start: int,
    ) -> web.StreamResponse:
        """Sends what was asked for, slice by slice; whoever falls behind the pace is cut off."""
        loop = asyncio.get_running_loop()
        began, size = loop.time(), answer.content_length or 0
        try:
            with await loop.run_in_executor(None, shared.path.open, "rb") as file:
                await answer.prepare(request)
                for at in range(0, size, SLICE_BYTES):
                    async with asyncio.timeout_at(began + self._answer_s + at / SLOWEST_BYTES_PER_S):
                        await loop.sendfile(transport, file, start + at, min(SLICE_BYTES, size - at))
                await answer.write_eof()
        except FileNotFoundError:
            raise web.HTTPNotFound(text="this archive is not here any more") from None
        except ConnectionError:  # it went elsewhere
            return answer
        except TimeoutError:
            log.info("%s reads too slowly and is cut off", request.remote)
            cut_off(transport)
            return answer
        self.bytes_sent += size
        return answer

    def _found(self, request: web.Request) -> SharedArchive:
        md5 = request.match_info["md5"]
        if not MD5_NAME.fullmatch(md5):
            raise web.HTTPNotFound(text="this archive is not here")
        given = request.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, f"Bearer {archive_pass(self._key, md5)}".encode()):
            refusal = web.HTTPUnauthorized(text="this is not the archive's pass")
            refusal.force_close()  # whoever shows no token keeps no connection
            raise refusal
        shared = self._lookup(md5)
        if shared is None:
            raise web.HTTPNotFound(text="this archive is not here")
        return shared


def _answer(request: web.Request, shared: SharedArchive, start: int, end: int) -> web.StreamResponse:
    """The head of an answer with these bytes."""
    headers = {PIECES_HEADER: _said(shared), "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    is_part = "Range" in request.headers
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{shared.size}"
    answer = web.StreamResponse(status=206 if is_part else 200, headers=headers)
    answer.content_length = end - start
    return answer


def _loop() -> asyncio.AbstractEventLoop:
    """The standard one, whatever uvicorn made the default of this process: uvloop has no sendfile."""
    return asyncio.new_event_loop() if sys.platform == "win32" else asyncio.SelectorEventLoop()


def _said(shared: SharedArchive) -> str:
    return to_text(shared.pieces, shared.count)


def _wanted(request: web.Request, size: int) -> tuple[int, int]:
    """The first byte and the one after the last. Raises 416 for what is no range of bytes."""
    if "If-Range" in request.headers:  # would turn a range that we have into a whole that we may not have
        raise web.HTTPRequestRangeNotSatisfiable(text="If-Range is not for archives: they never change")
    try:
        start, stop, _ = request.http_range.indices(size)
    except ValueError:
        raise web.HTTPRequestRangeNotSatisfiable(text="this is no range of bytes") from None
    return start, stop
