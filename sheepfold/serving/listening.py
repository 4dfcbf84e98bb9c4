"""A listening socket before its server runs, so that a taken port is told at once and port 0 is known."""

from __future__ import annotations

import os
import socket

#: Connections that wait until the server accepts them; the system may allow fewer.
BACKLOG = 512


def listen(host: str, port: int, *, backlog: int = BACKLOG) -> socket.socket:
    """A TCP socket that listens. No host: every interface, IPv6 and IPv4; port 0: a free one.

    Raises ``OSError``, or ``OverflowError`` for a number that is no port.
    """
    is_everywhere = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_everywhere or ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's algorithm off only for sockets that say TCP; with it on,
    # every answer after the first of a connection comes 40 ms late.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows this would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_everywhere:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::" if is_everywhere else host, port))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
