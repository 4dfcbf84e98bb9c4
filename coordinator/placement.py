"""Which node gets which offer. Pure: no I/O, no clock.

A node qualifies when it can render the frame at all (platform of the session, GPU where the job wants one, memory) and
has a place left. Among those the first of this order wins:

1. one that has not failed this lease yet,
2. one with a free slot before one where the order would wait (look-ahead),
3. one that holds the scene, then one that holds the renderer: what is warm need not be fetched,
4. the least busy for its slots, then the one with the most cores,
5. by name, so that the same farm always decides the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from render_tasks.contract import Compute, Presence

from .protocol.messages import ComputeMethod


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a lease asks of a node."""

    use_gpu: bool
    scene_md5: str
    renderer_md5: str
    #: Platform of the session, for which the server chose the renderer; ``None`` where the candidates have it anyway.
    os: str | None = None
    bits: str | None = None
    #: Bytes of memory the PC must have.
    min_ram: int = 0
    #: Nodes that failed this lease, to be asked again only when there is no other.
    tried: Collection[str] = ()
    #: Only these nodes, where given: a service's own test frame measures one machine.
    only: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A node and what it already has to do."""

    presence: Presence
    #: Leases ordered from it or rendering there, from the ledger; its own record lags behind.
    underway: int = 0

    def with_one_more(self) -> Candidate:
        """The same node with one order more."""
        return replace(self, underway=self.underway + 1)

    @property
    def free_slots(self) -> int:
        """Slots that have nothing to do."""
        return max(0, self.presence.slots - self.underway)


def choose(need: Need, candidates: Iterable[Candidate], *, lookahead: int = 0) -> str | None:
    """The id of the best node, or ``None`` where none qualifies now.

    ``lookahead`` is how many orders each slot may hold beside the one it renders, so that none waits for the next.
    """
    able = [one for one in candidates if one.presence.accepting and can_render(need, one.presence)]
    untried = [one for one in able if one.presence.node_id not in need.tried]
    # A frame that failed waits for a PC that has not failed it, if there is one.
    roomy = [one for one in untried or able if has_room(one, lookahead)]
    if not roomy:
        return None
    return min(roomy, key=lambda one: _rank(need, one)).presence.node_id


def has_room(candidate: Candidate, lookahead: int = 0) -> bool:
    """Whether the node takes one more order."""
    return candidate.presence.accepting and candidate.underway < candidate.presence.slots * (1 + lookahead)


def can_render(need: Need, node: Presence) -> bool:
    """Whether the node could ever render the frame."""
    hardware = node.hardware
    return (
        need.os in (None, hardware.os)
        and need.bits in (None, hardware.bits)
        and hardware.ram >= need.min_ram
        and (can_use_gpu(node) if need.use_gpu else node.compute is not Compute.GPU)
        and (not need.only or node.node_id in need.only)
    )


def can_use_gpu(node: Presence) -> bool:
    """Whether GPU frames may go there. ``both`` is a wish and needs a GPU that was found; ``gpu`` is a statement."""
    return node.compute is Compute.GPU or (node.compute is Compute.BOTH and bool(node.hardware.gpus))


def compute_method(candidates: Iterable[Candidate], *, lookahead: int = 0) -> ComputeMethod | None:
    """What to ask the server for on behalf of these nodes; ``None`` when none of them has room.

    Ask for exactly what the nodes with room can do: a frame no free node can render would only wait.
    """
    roomy = [one.presence for one in candidates if has_room(one, lookahead)]
    gpu = any(can_use_gpu(node) for node in roomy)
    cpu = any(node.compute is not Compute.GPU for node in roomy)
    if gpu and cpu:
        return ComputeMethod.CPU_OR_GPU
    if gpu:
        return ComputeMethod.GPU_ONLY
    return ComputeMethod.CPU_ONLY if cpu else None


def _rank(need: Need, candidate: Candidate) -> tuple[bool, bool, bool, bool, float, int, str, str]:
    node = candidate.presence
    return (
        node.node_id in need.tried,
        candidate.free_slots == 0,
        need.scene_md5 not in node.archives,
        need.renderer_md5 not in node.archives,
        candidate.underway / node.slots,
        -node.hardware.cpu_cores,
        node.name,
        node.node_id,
    )
