"""What a frame needs of a node, what capacity there is, and how far a frame may go for the sake of warmth. Pure.

A node qualifies when it can render the frame at all (platform of the session, GPU where the job wants one, memory,
tags) and has a place left. Which of those gets it is decided by the index (:mod:`coordinator.scheduling.node_index`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from coordinator.leases.lease import Lease
from sheepfold.contract.presence import Compute, Presence
from sheepfold.protocol.messages import ComputeMethod


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a lease asks of a node."""

    use_gpu: bool
    #: What nodes call the scene (:func:`sheepfold.contract.orders.scene_key`).
    scene_key: str
    renderer_md5: str
    #: Bytes of memory the PC must have.
    min_ram: int = 0
    #: Words that the PC's operator must have given it.
    tags: frozenset[str] = frozenset()
    #: The renderer archive starts the PC's own Blender.
    needs_local_blender: bool = False
    #: Nodes that failed this lease or had their say on it, to be asked again only when there is no other.
    tried: tuple[str, ...] = ()
    #: It may be what takes nodes down: it gets a node to itself.
    alone: bool = False
    #: The one node that may have it; ``None``: any, empty: none of ours.
    only_node: str | None = None


def can_render(need: Requirements, node: Presence) -> bool:
    """Whether the node could ever render the frame."""
    return (
        need.only_node in (None, node.node_id)
        and node.hardware.ram >= need.min_ram
        and (can_use_gpu(node) if need.use_gpu else node.compute is not Compute.GPU)
        and need.tags <= set(node.tags)
        and (bool(node.blender) or not need.needs_local_blender)
    )


def can_use_gpu(node: Presence) -> bool:
    """Whether GPU frames may go there. ``both`` is a wish and needs a GPU that was found; ``gpu`` is a statement."""
    return node.compute is Compute.GPU or (node.compute is Compute.BOTH and bool(node.hardware.gpus))


def compute_method(node: Presence) -> ComputeMethod:
    """What the server may be asked for on behalf of this node."""
    if node.compute is Compute.GPU:
        return ComputeMethod.GPU_ONLY
    return ComputeMethod.CPU_OR_GPU if can_use_gpu(node) else ComputeMethod.CPU_ONLY


class ColdStart(Enum):
    """Where a frame may be placed although its scene is not open there."""

    NOWHERE = auto()
    #: No slot stands idle for the sake of warmth.
    IN_A_FREE_SLOT = auto()
    #: Behind the frame of another scene, too.
    ANYWHERE = auto()


@dataclass(frozen=True, kw_only=True)
class PendingLease:
    """A lease that wants a node."""

    lease: Lease
    need: Requirements
    #: Seconds since it was granted or came back.
    waited_s: float


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Places left for orders, by what may be placed there."""

    cpu_only: int = 0
    gpu_only: int = 0
    either: int = 0

    @property
    def places(self) -> int:
        return self.cpu_only + self.gpu_only + self.either

    def without(self, *, cpu: int, gpu: int) -> Capacity:
        """What is left once so many frames of each kind have their places."""
        taken = max(0, cpu - self.cpu_only) + max(0, gpu - self.gpu_only)
        return Capacity(
            cpu_only=max(0, self.cpu_only - cpu),
            gpu_only=max(0, self.gpu_only - gpu),
            either=max(0, self.either - taken),
        )

    def method(self) -> ComputeMethod | None:
        """What to ask the server for: exactly what these places can do, for any other frame would only wait."""
        if self.either or (self.cpu_only and self.gpu_only):
            return ComputeMethod.CPU_OR_GPU
        if self.gpu_only:
            return ComputeMethod.GPU_ONLY
        return ComputeMethod.CPU_ONLY if self.cpu_only else None
