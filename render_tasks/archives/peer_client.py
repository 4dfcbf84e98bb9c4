"""Asks archive servers for pieces, over connections that are kept open and that :meth:`PeerClient.close` cuts.

One client serves one fetch, from many threads. It speaks HTTP through the standard library: a piece is read into memory
that is there already, and a thread that waits for a dead PC can be woken by closing its socket, which `requests` offers
no way to do.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass
from urllib.parse import urlsplit

from render_tasks.errors import PeerBusy, PeerLacksPiece, PeerUnusable
from sheepfold.contract.api_messages import PIECES_HEADER

#: Bytes of one read: how often the clock is looked at.
_READ_BYTES = 256 * 1024
#: What a peer says it has is never longer (characters).
_MAX_TEXT = 2048


@dataclass(frozen=True, kw_only=True)
class PeerTimeouts:
    """How long a peer may take to answer."""

    #: Seconds until it must have taken the call.
    connect_s: float
    #: Seconds between two bytes.
    silence_s: float
    #: Seconds for everything, and bytes per second that are added to it.
    at_least_s: float
    bytes_per_s: float

    def deadline_s(self, count: int) -> float:
        """Seconds for an answer of so many bytes."""
        return self.at_least_s + count / self.bytes_per_s


#: A PC of the LAN is there at once; when it sends pieces to eight others over a slow cable, it still keeps to this.
NODE_TIMEOUTS = PeerTimeouts(connect_s=1, silence_s=2, at_least_s=5, bytes_per_s=500_000)
#: The last peer to fall back on may serve fifty nodes.
COORDINATOR_TIMEOUTS = PeerTimeouts(connect_s=3, silence_s=10, at_least_s=20, bytes_per_s=100_000)


class PeerClient:
    """Calls to the peers that have one archive; threads share it."""

    def __init__(self, md5: str, archive_pass: str) -> None:
        self._path = f"/archives/{md5}"
        self._headers = {"Authorization": f"Bearer {archive_pass}"}
        self._lock = threading.Lock()
        self._idle: dict[str, list[http.client.HTTPConnection]] = defaultdict(list)
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False

    def piece(self, url: str, start: int, end: int, timeouts: PeerTimeouts) -> tuple[bytearray, str]:
        """The bytes from ``start`` up to ``end``, unverified, and what the peer says it has.

        Raises PeerBusy, PeerLacksPiece or PeerUnusable.
        """
        deadline = time.monotonic() + timeouts.deadline_s(end - start)
        with self._answer(url, self._path, {"Range": f"bytes={start}-{end - 1}"}, timeouts) as answer:
            if answer.status != 206 or answer.length != end - start:
                raise PeerUnusable(f"answered with status {answer.status} and {answer.length} bytes")
            return self._read(answer, end - start, deadline), answer.getheader(PIECES_HEADER, "")

    def pieces(self, url: str, timeouts: PeerTimeouts) -> str:
        """What a peer says it has. Raises PeerBusy, PeerLacksPiece or PeerUnusable."""
        with self._answer(url, self._path + "/pieces", {}, timeouts) as answer:
            if answer.status != 200 or answer.length is None or answer.length > _MAX_TEXT:
                raise PeerUnusable(f"answered with status {answer.status} and {answer.length} bytes")
            deadline = time.monotonic() + timeouts.at_least_s
            return bytes(self._read(answer, answer.length, deadline)).decode("ascii", "replace")

    def close(self) -> None:
        """Ends calls that are under way and those to come."""
        with self._lock:
            self._closed = True
            for connection in [*self._busy, *(connection for idle in self._idle.values() for connection in idle)]:
                _cut(connection)

    @contextlib.contextmanager
    def _answer(
        self, url: str, path: str, headers: dict[str, str], timeouts: PeerTimeouts
    ) -> Generator[http.client.HTTPResponse]:
        with self._connection(url, timeouts) as connection:
            answer = self._asked(connection, path, headers, timeouts)
            if answer.status == 503:
                answer.read(_MAX_TEXT)
                raise PeerBusy(f"{url} sends as much as it can")
            if answer.status in (404, 416):
                answer.read(_MAX_TEXT)
                raise PeerLacksPiece(f"{url} does not have it")
            yield answer

    @contextlib.contextmanager
    def _connection(self, url: str, timeouts: PeerTimeouts) -> Generator[http.client.HTTPConnection]:
        """A connection that is kept when its answer was read to the end, whatever the answer was."""
        with self._lock:
            idle = self._idle[url]
            connection = idle.pop() if idle else _connection_to(url, timeouts)
            self._busy.add(connection)
            if self._closed:
                _cut(connection)
        keep = False
        try:
            yield connection
            keep = True
        except (PeerBusy, PeerLacksPiece):
            keep = True
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PeerUnusable(f"{url}: {type(error).__name__}") from None
        finally:
            with self._lock:
                self._busy.discard(connection)
                if keep and not self._closed:
                    self._idle[url].append(connection)
                else:
                    connection.close()

    def _asked(
        self, connection: http.client.HTTPConnection, path: str, headers: dict[str, str], timeouts: PeerTimeouts
    ) -> http.client.HTTPResponse:
        for is_last in (connection.sock is None, True):
            if connection.sock is None:
                connection.connect()
                if self._closed:
                    raise PeerUnusable("the fetch has ended")
                assert connection.sock is not None
                connection.sock.settimeout(timeouts.silence_s)
            try:
                connection.request("GET", path, headers=self._headers | headers)
                return connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine):
                connection.close()  # kept open by us and closed by the other side: it is there all the same
                if is_last:
                    raise
        raise AssertionError("the last try returns or raises")

    def _read(self, answer: http.client.HTTPResponse, count: int, deadline: float) -> bytearray:
        content = bytearray(count)
        view, at = memoryview(content), 0
        while at < count:
            # One read of the socket each: `readinto` would wait until everything is there, however slowly it drips.
            got = answer.fp.readinto1(view[at : at + _READ_BYTES])
            if not got:
                raise PeerUnusable(f"cut off after {at} of {count} bytes")
            at += got
            if time.monotonic() > deadline:
                raise PeerUnusable(f"too slow: {at} of {count} bytes in time")
        answer.close()  # read to its end: the connection stays
        return content


def _connection_to(url: str, timeouts: PeerTimeouts) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeouts.connect_s)


def _cut(connection: http.client.HTTPConnection) -> None:
    """Wakes whoever waits for the connection."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
