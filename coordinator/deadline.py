"""A hard end for an HTTP exchange: no server, however slowly it drips, holds a thread for ever.

The timeouts of requests and urllib3 are for one read of the socket. A server that sends one byte of a header every
minute never trips them. So each exchange runs inside a :class:`Deadline`: the connections of this file tell the
deadline of their thread which socket they use, and a watching thread shuts those sockets down when time is up. The
exchange then sees its connection end, at whatever place it was: handshake, header, body, or sending.

The deadline holds a duplicate of the socket, so that it can shut the connection down whoever wrapped (TLS), closed or
handed on the original meanwhile, and never a later connection that got the same number.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: Pause between two looks at whether an exchange was abandoned; a stop may take this much longer.
ABANDONED_EVERY_S = 0.25
#: One block of a body must be taken by the network within this time.
SEND_STALL_S = 60.0

_of_thread = threading.local()


class DeadlinePassed(Exception):
    """The exchange's time was up before its connection was made."""


class Deadline:
    """Ends the HTTP exchange that its thread makes inside ``with``, ``seconds`` after entering.

    ``abandoned`` is asked a few times a second; once it is true the exchange ends too. :meth:`cut` ends it at once and
    may be called from any thread. Deadlines don't nest.
    """

    def __init__(self, seconds: float, *, abandoned: Callable[[], bool] | None = None) -> None:
        #: Why the exchange was ended, for a person; ``None`` while it was not.
        self.ended: str | None = None
        self._seconds = seconds
        self._abandoned = abandoned
        self._until = 0.0
        self._done = False
        self._sockets: list[socket.socket] = []
        self._change = threading.Condition()

    def __enter__(self) -> Deadline:
        self._until = time.monotonic() + self._seconds
        _of_thread.deadline = self
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _of_thread.deadline = None
        with self._change:
            self._done = True
            for one in self._sockets:
                one.close()
            self._sockets.clear()
            self._change.notify()

    def extend(self, seconds: float) -> None:
        """Grants more time, for progress that was made."""
        with self._change:
            self._until += seconds

    def cut(self, why: str) -> None:
        """Ends the exchange now."""
        with self._change:
            if self.ended or self._done:
                return
            self.ended = why
            for one in self._sockets:
                # Already closed by the other side: as good as cut.
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._change.notify()

    def hold(self, connected: socket.socket) -> None:
        """Makes ``connected`` end with this deadline; raises :class:`DeadlinePassed` when it has passed."""
        with self._change:
            self.check()
            self._sockets.append(socket.socket(fileno=socket.dup(connected.fileno())))

    def check(self) -> None:
        """Raises :class:`DeadlinePassed` when the exchange was ended."""
        if self.ended:
            raise DeadlinePassed(self.ended)

    def _watch(self) -> None:
        with self._change:
            while not self._done and not self.ended:
                left = self._until - time.monotonic()
                if left <= 0:
                    self.cut("no complete answer in time")
                elif self._abandoned and self._abandoned():
                    self.cut("given up on request")
                else:
                    self._change.wait(min(left, ABANDONED_EVERY_S) if self._abandoned else left)


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
        sock = super()._new_conn()
        try:
            deadline.hold(sock)
        except DeadlinePassed:
            sock.close()
            raise
        return sock

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
