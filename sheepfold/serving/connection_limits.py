"""How long and how slowly a client may hold a connection, and how many it may have; for every HTTP server here.

A connection is always in one phase::

    IDLE ──first byte──▶ HEAD ──blank line──▶ BODY ──last byte──▶ ANSWER ──last byte written──▶ IDLE
                                              BODY ──answered before its end──▶ REST ──last byte──▶ IDLE

A new one is in HEAD: a client that connects has something to say. HEAD has a deadline and a size, BODY a pace, REST
both (the client is given time to notice its answer), and whatever was answered has to be taken at that pace too.
ANSWER is the application's own time, and how long IDLE lasts is the HTTP library's rule. What breaks a rule is cut off
at once.

An address has only so many connections, and so has the server. One more takes the place of the one that has been in
HEAD for longest: of many that say nothing the newest may be an honest client. Where all have asked, it is refused.

Everything happens on the server's event loop: no thread waits for a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

#: Pause between two looks at all connections (seconds).
LOOK_EVERY_S = 1.0
#: What the system takes before it says that a write has to wait; about what the libraries here set.
HIGH_WATER_BYTES = 64 * 1024
#: How the system wants to be told: Windows has short numbers.
_LINGER = "hh" if sys.platform == "win32" else "ii"


class Phase(enum.Enum):
    """What is going on at a connection."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    #: The rest of a body that is answered already.
    REST = "rest"


@dataclass(frozen=True, kw_only=True)
class ConnectionRules:
    """How slow and how many one server's connections may be, before they are closed or refused."""

    #: Seconds until the head of a request is whole.
    head_s: float = 10.0
    #: Bytes of a head, and of what may follow a body.
    head_bytes: int = 64 * 1024
    #: Bytes a second of a body, and of an answer that the client reads.
    slowest_bytes_per_s: int = 4 * 1024
    #: Seconds that a client may be behind that pace.
    behind_s: float = 15.0
    #: Seconds for the rest of a body that was answered before its end.
    rest_s: float = 60.0
    #: Connections of one address that have sent no whole head although they had a second for it.
    waiting_per_address: int = 64
    #: Connections of one address. Behind a router many PCs have one.
    per_address: int = 4096
    #: All connections.
    total: int = 8192


class Connection:
    """One client's connection, as its HTTP protocol tells of it.

    It is in each of ``queues`` while it is in HEAD; the one that got there first stands first.
    """

    def __init__(self, transport: asyncio.Transport, address: str, *queues: dict[Connection, None]) -> None:
        self.transport, self.address = transport, address
        self.unread: Callable[[], bool] = _never
        self._queues = queues
        self.unsent = 0
        self.behind_bytes = 0.0
        #: Its TLS handshake is done.
        self.is_secured = False
        self.enter(Phase.HEAD)

    def enter(self, phase: Phase) -> None:
        """Something else goes on from now."""
        self.phase = phase
        self.leave_queues()
        for queue in self._queues if phase is Phase.HEAD else ():
            queue[self] = None
        #: In this phase, without what the application did not want to read yet.
        self.seconds = 0.0
        self.received = self.head_bytes = 0

    def leave_queues(self) -> None:
        """It waits for no head any more: it has come, or will not."""
        for queue in self._queues:
            queue.pop(self, None)


@dataclass
class _OfAddress:
    """What one address has."""

    count: int = 0
    #: Those in HEAD, the one that got there first stands first.
    waiting: dict[Connection, None] = field(default_factory=dict["Connection", None])


def _never() -> bool:
    return False


class ConnectionLimits:
    """All connections of one server. Belongs to the event loop that serves them."""

    def __init__(self, rules: ConnectionRules | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.rules = rules or ConnectionRules()
        #: Connections that were cut off or not let in, ever.
        self.refused = 0
        self._clock = clock
        self._connections: dict[Connection, None] = {}
        self._of_address: defaultdict[str, _OfAddress] = defaultdict(_OfAddress)
        #: Those in HEAD of all addresses.
        self._waiting: dict[Connection, None] = {}
        self._looked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._continued: Connection | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def opened(self, transport: asyncio.Transport) -> Connection:
        """A client is there; where that is one too many, one is cut off at once."""
        if self._continued is not None:
            return self._continued
        address = address_of(transport)
        theirs = self._of_address[address]
        full = self._full_queue(theirs)
        connection = Connection(transport, address, theirs.waiting, self._waiting)
        self._connections[connection] = None
        theirs.count += 1
        if full is not None:
            self._cut(next(iter(full)), "one connection too many")
        if self._timer is None:
            self._looked_at = self._clock()
            self._look_later()
        return connection

    @contextlib.contextmanager
    def continuing(self, connection: Connection) -> Generator[None]:
        """What is opened meanwhile is this connection, of which another protocol tells from now on.

        Its time goes on. What is unsent is asked of the transport that it came with, the one below TLS.
        """
        self._continued = connection
        try:
            yield
        finally:
            self._continued = None

    def _full_queue(self, theirs: _OfAddress) -> dict[Connection, None] | None:
        """The queue whose first makes room for one more connection of an address, itself at last; ``None``: no need."""
        if theirs.count >= self.rules.per_address:
            return theirs.waiting
        return self._waiting if len(self._connections) >= self.rules.total else None

    def closed(self, connection: Connection) -> None:
        """Forgets a client's connection; a second call for the same one does nothing."""
        if connection not in self._connections:
            return
        del self._connections[connection]
        connection.leave_queues()
        theirs = self._of_address[connection.address]
        theirs.count -= 1
        if not theirs.count:
            del self._of_address[connection.address]
        if not self._connections and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def took(self, connection: Connection, size: int) -> None:
        """So many bytes came, and the protocol has looked at them."""
        connection.received += size
        if connection.phase is Phase.HEAD:
            connection.head_bytes += size
        if connection.head_bytes > self.rules.head_bytes:
            self._cut(connection, "the head of a request is endless")

    def look_once(self) -> None:
        """Cuts off whoever has broken a rule since the last look."""
        now = self._clock()
        passed_s, self._looked_at = now - self._looked_at, now
        for connection in list(self._connections):
            if reason := self._judge(connection, passed_s):
                self._cut(connection, reason)
        for theirs in self._of_address.values():
            late = [connection for connection in theirs.waiting if connection.seconds >= LOOK_EVERY_S]
            for connection in late[: max(0, len(late) - self.rules.waiting_per_address)]:
                self._cut(connection, "too many connections wait for their request")

    def _judge(self, connection: Connection, passed_s: float) -> str:
        rules = self.rules
        if not connection.unread():
            connection.seconds += passed_s
        if connection.phase is Phase.HEAD and connection.seconds > rules.head_s:
            return "the head of a request takes too long"
        if connection.phase is Phase.REST and connection.seconds > rules.rest_s:
            return "the rest of an answered request takes too long"
        if connection.phase in (Phase.BODY, Phase.REST):
            wanted = (connection.seconds - rules.behind_s) * rules.slowest_bytes_per_s
            if connection.received < wanted:
                return "a body comes too slowly"
        return "an answer is read too slowly" if self._is_behind(connection, passed_s) else ""

    def _is_behind(self, connection: Connection, passed_s: float) -> bool:
        """Whether what was written to the client waits for it longer than it may."""
        rules, unsent = self.rules, connection.transport.get_write_buffer_size()
        sent = connection.unsent - unsent if unsent else HIGH_WATER_BYTES + connection.unsent
        due = rules.slowest_bytes_per_s * passed_s if connection.unsent and unsent else 0.0
        connection.behind_bytes = max(0.0, connection.behind_bytes + due - max(0, sent))
        connection.unsent = unsent
        return connection.behind_bytes > rules.slowest_bytes_per_s * rules.behind_s

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._look_later()
        self.look_once()

    def _cut(self, connection: Connection, reason: str) -> None:
        self.refused += 1
        log.debug("%s is cut off: %s", connection.address, reason)
        connection.leave_queues()
        cut_off(connection.transport)


def cut_off(transport: asyncio.Transport) -> None:
    """Ends a connection at once: the system does not go on either with what it has taken over from us."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(_LINGER, 1, 0))
    transport.abort()


def address_of(transport: asyncio.Transport) -> str:
    """The client's address as limits count it: of IPv6 its network (/64), all of which one machine may have."""
    peer = transport.get_extra_info("peername")
    address = str(peer[0]) if peer else ""
    return ":".join(address.split(":")[:4]) if ":" in address and not address.startswith("::") else address
