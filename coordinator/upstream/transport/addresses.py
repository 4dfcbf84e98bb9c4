"""Where a server may send us, and how an address may be shown. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin, urlsplit, urlunsplit

from coordinator.upstream.errors import BadResponse


def resolve(base: str, reference: str) -> str:
    """The URL that ``reference`` means, unless it leads where no server may send us."""
    try:
        url = urljoin(base, reference)
        parts = urlsplit(url)
    except ValueError:
        raise BadResponse("the server names an address that is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadResponse("the server names an address that is neither http nor https")
    if parts.scheme == "http" and urlsplit(base).scheme == "https":
        raise BadResponse("the server would leave https for http")
    return url


def is_this_machine(url: str) -> bool:
    """The lab lives on loopback, where no studio's proxy leads; requests would send it there."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def public(url: str) -> str:
    """The URL as it may be shown: no user, query or fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
