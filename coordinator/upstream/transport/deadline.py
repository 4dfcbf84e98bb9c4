"""A hard end for an HTTP exchange: no server, however slowly it drips, holds a thread for ever.

The timeouts of requests and urllib3 are for one read of the socket. A server that sends one byte of a header every
minute never trips them. So each exchange runs inside a :class:`Deadline`: the connections of this file tell the
deadline of their thread which socket they use, and one watching thread shuts those sockets down when time is up. The
exchange then sees its connection end, at whatever place it was: handshake, header, body, or sending.

The deadline holds a duplicate of the socket, so that it can shut the connection down whoever wrapped (TLS), closed or
handed on the original meanwhile, and never a later connection that got the same number.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from coordinator.upstream.errors import DeadlinePassed

from .inward import InwardGuard

#: Pause between two looks at whether an exchange was abandoned; a stop may take this much longer.
ABANDONED_EVERY_S = 0.25
#: The watch looks round this often, so that an exchange with an ordinary deadline need not wake it.
LOOKS_EVERY_S = 30.0
#: One block of a body must be taken by the network within this time.
SEND_STALL_S = 60.0

_of_thread = threading.local()


class Deadline:
    """Ends the HTTP exchange that its thread makes inside ``with``, ``seconds`` after entering.

    ``abandoned`` is asked a few times a second; once it is true the exchange ends too. :meth:`cut` ends it at once and
    may be called from any thread. Deadlines don't nest.
    """

    def __init__(
        self, seconds: float, *, abandoned: Callable[[], bool] | None = None, guard: InwardGuard | None = None
    ) -> None:
        #: Judges where the exchange's connections go; ``None``: anywhere.
        self.guard = guard
        #: Why the exchange was ended, for a person; ``None`` while it was not.
        self.ended: str | None = None
        self._seconds = seconds
        self._abandoned = abandoned
        self._until = 0.0
        self._done = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Deadline:
        self._until = time.monotonic() + self._seconds
        _of_thread.deadline = self
        _watch.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _of_thread.deadline = None
        _watch.remove(self)
        with self._lock:
            self._done = True
            for connected in self._sockets:
                connected.close()
            self._sockets.clear()

    def extend(self, seconds: float) -> None:
        """Grants more time, for progress that was made."""
        with self._lock:
            self._until += seconds

    def cut(self, why: str) -> None:
        """Closes the exchange's sockets, from any thread; whoever reads from them fails with ``why``."""
        with self._lock:
            if self.ended or self._done:
                return
            self.ended = why
            for connected in self._sockets:
                # Already closed by the other side: as good as cut.
                with contextlib.suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)

    def hold(self, connected: socket.socket) -> None:
        """Makes ``connected`` end with this deadline; raises :class:`DeadlinePassed` when it has passed."""
        with self._lock:
            self.check()
            self._sockets.append(socket.socket(fileno=socket.dup(connected.fileno())))

    def check(self) -> None:
        """Raises :class:`DeadlinePassed` when the exchange was ended."""
        if self.ended:
            raise DeadlinePassed(self.ended)

    def look_at(self, now: float) -> float:
        """Ends the exchange when its time is up or nobody wants it any more; when to look again (monotonic seconds)."""
        if self._until <= now:
            self.cut("no complete answer in time")
        elif self._abandoned and self._abandoned():
            self.cut("given up on request")
        if self.ended:
            return math.inf
        return min(self._until, now + ABANDONED_EVERY_S) if self._abandoned else self._until


class _Watch:
    """The thread that looks at every deadline inside of which something happens now."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        #: Deadline → when it is looked at next (monotonic seconds).
        self._next: dict[Deadline, float] = {}
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline) -> None:
        look_at = deadline.look_at(time.monotonic())
        with self._change:
            self._next[deadline] = look_at
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            if look_at < self._wakes_at:
                self._change.notify()

    def remove(self, deadline: Deadline) -> None:
        with self._change:
            self._next.pop(deadline, None)

    def _run(self) -> None:
        while True:
            with self._change:
                now = time.monotonic()
                due = [deadline for deadline, at in self._next.items() if at <= now]
                if not due:
                    self._wakes_at = min(self._next.values(), default=now + LOOKS_EVERY_S)
                    self._wakes_at = min(self._wakes_at, now + LOOKS_EVERY_S)
                    self._change.wait(self._wakes_at - now)
                    continue
            # Outside the lock: whoever is asked whether a call is abandoned may take a moment.
            for deadline in due:
                look_again = deadline.look_at(now)
                with self._change:
                    if deadline in self._next:
                        self._next[deadline] = look_again


_watch = _Watch()


def current_deadline() -> Deadline | None:
    """The deadline that the calling thread is inside of."""
    return getattr(_of_thread, "deadline", None)


class _Held(HTTPConnection):
    """A connection that its thread's deadline can end."""

    def _new_conn(self) -> socket.socket:
        deadline = current_deadline()
        if deadline is None:
            return super()._new_conn()
        deadline.check()
        sock = self._connected(deadline.guard)
        try:
            deadline.hold(sock)
        except DeadlinePassed:
            sock.close()
            raise
        return sock

    def _connected(self, guard: InwardGuard | None) -> socket.socket:
        """To one of the addresses that were judged, and to no other one."""
        host = self._dns_host
        addresses = guard.addresses_of(host, self.port) if guard is not None and self.proxy is None else ()
        failure: NewConnectionError | None = None
        for address in addresses:
            self._dns_host = address
            try:
                return super()._new_conn()
            except NewConnectionError as error:
                failure = error
            finally:
                self._dns_host = host
        if failure is not None:
            raise failure
        return super()._new_conn()

    def connect(self) -> None:
        super().connect()
        self._allow_slow_sending()

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        # A socket is here already when a kept-alive connection is used again, or TLS has connected first.
        deadline = current_deadline()
        if self.sock is not None and deadline is not None:
            deadline.hold(self.sock)
            self._allow_slow_sending()
        super().putrequest(*args, **kwargs)

    def _allow_slow_sending(self) -> None:
        # urllib3 sends under the connect timeout, which is too short for a line that stutters under a large upload.
        if self.sock is not None:
            self.sock.settimeout(SEND_STALL_S)


class _HeldTLS(_Held, HTTPSConnection):
    """The same over TLS."""


class _HeldPool(HTTPConnectionPool):
    ConnectionCls = _Held  # pyright: ignore[reportAssignmentType]


class _HeldTLSPool(HTTPSConnectionPool):
    ConnectionCls = _HeldTLS  # pyright: ignore[reportAssignmentType]


#: For a urllib3 ``PoolManager.pool_classes_by_scheme``.
HELD_POOLS: dict[str, Any] = {"http": _HeldPool, "https": _HeldTLSPool}
