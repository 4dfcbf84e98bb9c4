"""Presence: a node's record in Redis. Pure.

::

    sheepfold:presence:<node id>   string   Presence as JSON, empty after it signed off; expires after 15 s

A key for each node, so that a node's Redis user can be kept to its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

#: What a node's key begins with; its node id follows.
PRESENCE_PREFIX = "sheepfold:presence:"

#: The record of a node that left on purpose: silence has to be waited for, signing off has not.
PRESENCE_LEFT = ""

#: A record is written this often.
PRESENCE_EVERY_S = 5

#: Three missed records: the node is gone.
NODE_SILENT_AFTER_S = 15


def presence_key(node_id: str) -> str:
    """The key of one node's record."""
    return f"{PRESENCE_PREFIX}{node_id}"


#: What a node calls itself; it becomes part of queue names.
NodeId = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]{0,63}\Z")]
#: Names, versions and ids: a coordinator keeps them of every node.
ShortText = Annotated[str, msgspec.Meta(max_length=256)]
#: A line or two for a person, which may hold a path.
Sentence = Annotated[str, msgspec.Meta(max_length=8192)]
#: More than any PC renders side by side.
SlotCount = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Compute(StrEnum):
    """What a node lets the farm use."""

    CPU = "cpu"
    GPU = "gpu"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class NodeHardware:
    """A PC as a session describes it, and what placement needs."""

    #: ``windows``, ``mac`` or ``linux``.
    os: ShortText
    #: ``32bit`` or ``64bit``.
    bits: ShortText
    cpu_family: ShortText
    cpu_model: ShortText
    cpu_model_name: ShortText
    #: Threads available.
    cpu_cores: int
    #: Bytes.
    ram: int
    #: Names of usable GPUs, empty where there are none.
    gpus: Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=64)] = ()
    #: Name and release of the operating system, for a person; later generations of servers are told.
    os_version: ShortText = ""


class Stage(StrEnum):
    """What a slot is doing with its lease."""

    FETCHING = "fetching"
    #: Archives are there, and every slot is rendering.
    WAITING = "waiting"
    RENDERING = "rendering"
    DELIVERING = "delivering"


@dataclass(frozen=True, kw_only=True)
class SlotState:
    """One lease a node holds right now."""

    lease_id: str
    attempt: int
    job_name: str
    frame: str
    stage: Stage
    #: 0 to 1, ``None`` while Blender has said nothing.
    progress: float | None = None
    #: Seconds Blender expects to need.
    remaining_s: float | None = None
    #: Peak memory so far, kB.
    memory_kb: int | None = None


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A node's record in Redis, written every :data:`PRESENCE_EVERY_S`."""

    node_id: str
    #: Unique on this LAN; a person reads it.
    name: str
    hardware: NodeHardware
    #: Frames rendered side by side.
    slots: int
    compute: Compute
    #: Leases it works on, at most ``slots`` of them rendering.
    busy: tuple[SlotState, ...] = ()
    #: What is unpacked in this node's cache: renderers by MD5, scenes by :func:`scene_key`.
    archives: tuple[str, ...] = ()
    #: Root URL of this node's archive server; empty: it has none.
    archive_url: str = ""
    #: MD5 sums of archives it sends to other nodes, parts of scenes among them.
    shared: tuple[str, ...] = ()
    #: Keys of scenes that an open Blender holds right now.
    warm: tuple[str, ...] = ()
    #: Words that describe it; a job may ask for some of them.
    tags: Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=64)] = ()
    #: False while the node takes nothing more (it is about to stop).
    accepting: bool = True
    #: Why the node can take nothing at all right now, and what to do about it; empty: it can.
    trouble: Sentence = ""
    #: Version of the Blender that is installed there (``3.4.1``); empty: none, or none that answers.
    blender: ShortText = ""
    #: Why there is no such Blender, and what to do about it.
    no_blender: Sentence = ""
    #: How well its renderers are kept in: ``bubblewrap``, ``landlock`` or ``none``.
    sandbox: ShortText = ""
    #: Why not better, and what to do about it; empty: there is none better.
    sandbox_note: Sentence = ""
    #: As in :attr:`JoinRequest.installation`.
    installation: ShortText = ""
    version: ShortText = ""
