"""By which name others reach this machine."""

from __future__ import annotations

from urllib.parse import urlsplit


def shown_host(public_url: str | None, reached_by: str) -> str:
    """The host of ``public_url``, else the one that a caller used for us; IPv6 in brackets, as URLs want it."""
    host = (urlsplit(public_url).hostname if public_url else None) or reached_by
    return f"[{host}]" if ":" in host else host
