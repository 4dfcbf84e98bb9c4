"""Who a node is, and what it works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .archives import ArchiveCache
from .contract import Compute, NodeHardware
from .delivery import Depot
from .guard import Guard
from .node_health import NodeHealth
from .outbox import Outbox
from .warm_blender import WarmBlenders


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who this node is and what it offers."""

    node_id: str
    #: As the coordinator made it unique.
    name: str
    hardware: NodeHardware
    slots: int
    compute: Compute
    #: Threads of one slot's renderer; ``None``: as many as it finds.
    cores: int | None
    #: Most that one slot's render may hold, kB; ``None``: no limit of ours.
    memory_limit_kb: int | None = None
    #: What its operator calls it apt for.
    tags: tuple[str, ...] = ()
    #: As in :attr:`~render_tasks.contract.JoinRequest.installation`.
    installation: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a node works with."""

    depot: Depot
    cache: ArchiveCache
    outbox: Outbox
    guard: Guard
    #: Parent of the attempts' scratch folders.
    scratch: Path
    #: Where other nodes get archives from this one; empty: nowhere.
    archive_url: Callable[[], str] = lambda: ""
    #: Blenders that stay open between frames; ``None``: one Blender per frame.
    warm: WarmBlenders | None = None
    #: Knows whether this PC can take frames; ``None``: nobody looks.
    health: NodeHealth | None = None
