"""Who sent a request, as far as its connection tells: from which machine, and by which node's certificate."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from sheepfold.contract.api_messages import NODE_SECRET_HEADER
from sheepfold.serving.uvicorn_protocol import CLIENT_CERTIFICATE
from sheepfold.tls.contexts import node_in

#: Said to whoever would join from another machine by the farm token.
JOIN_BY_INVITATION = (
    "the farm token lets PCs in on the coordinator's own machine alone: join by the line of `sheepfold node invite`"
)


def node_shown(request: Request) -> str:
    """The node whose certificate the caller showed; empty: none was shown."""
    return node_in(request.scope.get("state", {}).get(CLIENT_CERTIFICATE))


def is_from_here(request: Request) -> bool:
    """Whether the caller is on this machine."""
    client, server = _host(request.scope.get("client")), _host(request.scope.get("server"))
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or client == server


def proves_node(request: Request, node_id: str, is_node: Callable[[str, str], bool]) -> bool:
    """Whether the caller is the node it names: by that node's secret, and by its certificate where it shows one."""
    shown = node_shown(request)
    return shown in ("", node_id) and is_node(node_id, request.headers.get(NODE_SECRET_HEADER, ""))


def _host(end: Any) -> str:
    return str(end[0]) if end else ""
