"""The one table of who may call what: every route of the LAN API, and every command that calls one.

A request that no row is for is refused before anything else sees it, so a route that was forgotten here opens for
nobody; a test walks the routes and the commands and names it. Add a row with the route.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .roles import Role


@dataclass(frozen=True, kw_only=True)
class Route:
    """One thing that can be asked of the coordinator."""

    method: str
    #: ``{name}`` stands for any text without a slash.
    path: str
    role: Role
    #: ``sheepfold ...``: the commands that call it.
    commands: tuple[str, ...] = ()


def _row(role: Role, method: str, path: str, *commands: str) -> Route:
    return Route(method=method, path=path, role=role, commands=commands)


ROUTES = (
    _row(Role.ANYBODY, "GET", "/healthz"),
    # Who joins: what it compares by fingerprint, and what it has for a code.
    _row(Role.ANYBODY, "GET", "/farm-ca.pem"),
    _row(Role.ANYBODY, "POST", "/api/certificate"),
    # Nodes
    _row(Role.NODE, "POST", "/api/leases/{lease}/start"),
    _row(Role.NODE, "PUT", "/api/leases/{lease}/frame"),
    _row(Role.NODE, "POST", "/api/leases/{lease}/failure"),
    _row(Role.NODE, "POST", "/api/join", "worker"),
    _row(Role.NODE, "GET", "/api/archives/{md5}"),
    _row(Role.NODE, "GET", "/api/archives/{md5}/sources"),
    # People
    _row(Role.VIEWER, "GET", "/"),
    _row(Role.VIEWER, "GET", "/api/status", "status"),
    _row(Role.VIEWER, "GET", "/api/log", "log"),
    _row(Role.VIEWER, "GET", "/metrics"),
    _row(Role.VIEWER, "GET", "/api/broker", "flower"),
    _row(Role.VIEWER, "GET", "/openapi.json"),
    _row(Role.OPERATOR, "POST", "/api/cancel", "cancel"),
    _row(Role.OPERATOR, "POST", "/api/unblock", "unblock"),
    _row(Role.OPERATOR, "POST", "/api/ask", "ask"),
    _row(Role.OPERATOR, "POST", "/api/nodes/{name}/release", "node release"),
    _row(Role.ADMIN, "POST", "/api/invitations", "node invite"),
    _row(Role.ADMIN, "POST", "/api/nodes/{name}/revoke", "node revoke"),
)
#: Commands that call no coordinator, and what they need instead.
LOCAL_COMMANDS: Mapping[str, str] = MappingProxyType({
    "coordinator": "the account at the server, and the state folder",
    "doctor": "nothing",
    "forget-farm": "the work folder",
    "lab": "nothing",
    "ledger backup": "the state folder's files",
    "server": "the account of its owner",
    "submit": "the account at the lab server",
})  # fmt: skip


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))


_EXACT = {(route.method, route.path): route for route in ROUTES if "{" not in route.path}
_PATTERNS = tuple((_pattern(route.path), route) for route in ROUTES if "{" in route.path)


def route_of(method: str, path: str) -> Route | None:
    """The row for a request; ``path`` without its query. ``None``: nobody may ask that."""
    if exact := _EXACT.get((method, path)):
        return exact
    matching = (route for pattern, route in _PATTERNS if route.method == method and pattern.fullmatch(path))
    return next(matching, None)


def methods_of(path: str) -> frozenset[str]:
    """With which methods the path is a row."""
    return frozenset(method for method in ("GET", "POST", "PUT", "DELETE") if route_of(method, path))
