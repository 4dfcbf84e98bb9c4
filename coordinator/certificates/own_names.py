"""The names and addresses that this machine is reached by."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psutil

from sheepfold.config import address_parts, is_loopback

#: Never asked for anything: it only decides which way out a packet would take (an address for documentation).
_ELSEWHERE = ("192.0.2.1", 9)
_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 (to tell them apart from addresses)
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def own_names(public_url: str | None) -> Iterator[str]:
    """Host names and addresses, the loopback's among them; ``public_url`` may add one."""
    yield from ("localhost", "127.0.0.1", "::1")
    if (name := socket.gethostname()) and name.isascii():
        yield name
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            # One with a zone is valid on one cable alone, and no certificate can name it.
            if address.family in _FAMILIES and "%" not in address.address:
                yield address.address
    parts = address_parts(public_url) if public_url else None
    if parts and parts.hostname:
        yield parts.hostname


def address_for_others(host: str, port: int, public_url: str | None) -> str:
    """``host:port`` at which other PCs find the LAN API; ``host``: where it listens."""
    parts = address_parts(public_url) if public_url else None
    if parts and parts.hostname and not is_loopback(parts.hostname):
        return _joined(parts.hostname, parts.port or port)
    return _joined(_way_out() if host in _EVERYWHERE else host, port)


def _way_out() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)  # sends nothing
        except OSError:
            return socket.gethostname()  # no network right now
        return str(probe.getsockname()[0])


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
