"""A render server on the internet may not lead us into this network.

A server names addresses: of its endpoints, of uploads, of redirects, of speed tests. Behind each name may be a router,
a camera or another service that obeys whoever is inside. So what a name is found as is judged, and exactly those
addresses are connected to: a name that is found as another address a moment later gains nothing. A server that is
itself inside (the lab, a studio's own) may name what is inside.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from coordinator.upstream.errors import BadResponse

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class InwardGuard:
    """For one server, by the root URL that the operator gave. Thread-safe: what it remembers only ever becomes true."""

    def __init__(self, root_url: str) -> None:
        self._root_host = urlsplit(root_url).hostname or ""
        #: Once it was on the internet it stays there, whatever its name is found as later.
        self._is_outside = False

    def addresses_of(self, host: str, port: int) -> tuple[str, ...]:
        """Where a connection to this host may go; empty where it cannot be found. Raises :class:`BadResponse`."""
        found = _found(host, port)
        inside = [address for address in found if not is_global(ipaddress.ip_address(address.partition("%")[0]))]
        if host == self._root_host and len(inside) < len(found):
            self._is_outside = True
        if inside and self._root_is_outside():
            raise BadResponse("the server would lead us to an address of this network")
        return found

    def check_literal(self, host: str) -> None:
        """For what goes through a proxy, which finds names by itself: an address that stands in the URL is judged."""
        if host == "localhost" or _is_literal(host):
            self.addresses_of(host, 0)

    def _root_is_outside(self) -> bool:
        if not self._is_outside:
            found = _found(self._root_host, 0)
            self._is_outside = any(is_global(ipaddress.ip_address(address.partition("%")[0])) for address in found)
        return self._is_outside


def is_global(address: _Address) -> bool:
    """Whether an address is one of the internet, and no wrapping of another one."""
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
    return inner.is_global and not inner.is_multicast


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _found(host: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
