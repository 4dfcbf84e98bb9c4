"""A node's identity, and the services it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from render_tasks.archives.cache import ArchiveCache
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.sandbox.sandbox import Sandbox
from render_tasks.blender.warm.pool import WarmBlenders
from render_tasks.node_health import NodeHealth
from sheepfold.contract.presence import Compute, NodeHardware

from .delivery import LeaseApi
from .outbox import Outbox


@dataclass(frozen=True, kw_only=True)
class NodeIdentity:
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
    #: Words by which jobs may ask for this node.
    tags: tuple[str, ...] = ()
    #: As in :attr:`~sheepfold.contract.api_messages.JoinRequest.installation`.
    installation: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class NodeServices:
    """The parts of the worker that a node calls; all of them are shared by its threads."""

    coordinator: LeaseApi
    cache: ArchiveCache
    outbox: Outbox
    guard: OrphanGuard
    #: Parent of the attempts' scratch folders.
    scratch: Path
    #: What keeps renderers in.
    sandbox: Sandbox
    #: Where other nodes get archives from this one; empty: nowhere.
    archive_url: Callable[[], str] = lambda: ""
    #: Blenders that stay open between frames; ``None``: one Blender per frame.
    warm: WarmBlenders | None = None
    #: Knows whether this PC can take frames; ``None``: nobody looks.
    health: NodeHealth | None = None
