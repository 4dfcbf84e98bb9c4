"""The lease: one frame the server gave us, from its grant to exactly one end.

A lease is the only truth about a frame. Celery messages, nodes and pictures are claims about a lease, and a claim
counts only when it names the lease's current *attempt*: a node that was thought dead and comes back with attempt 1 of
a lease that is at attempt 2 is told to drop it. So a frame is accepted once and none is forgotten.

A picture that looks broken and may be right is *held back*: it stays in the spool, the lease goes back to GRANTED for
a second opinion, and nothing is counted against frame or node. What ends the wait is the next picture (DELIVER: either
both agree, or the first was wrong), or a frame next to it that turns out to look like it (BELIEVE: the picture that
was held back is delivered, whoever is at work on the second one).

``TRANSITIONS`` is the whole machine. :func:`advance` looks a step up in it; an illegal step raises and changes nothing.
The diagram in ``docs/explanation/lease.md`` is generated from the same table.

Pure: no I/O and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sheepfold.contract.orders import scene_key
from sheepfold.protocol.messages import JobOffer

from .errors import IllegalTransition, NothingHeldBack, StaleAttempt


class LeaseState(StrEnum):
    """Where a lease stands; which step leads where is in :data:`TRANSITIONS`."""

    #: The server gave us the frame; no node has it.
    GRANTED = "granted"
    #: A node's queue holds the order.
    ORDERED = "ordered"
    #: The node passed the start-fence and works on it.
    RENDERING = "rendering"
    #: The picture is in the spool, on disk, and passed inspection.
    DELIVERED = "delivered"
    #: The server took the frame.
    ACCEPTED = "accepted"
    #: The server said no for good.
    REFUSED = "refused"
    #: The attempts are used up; the server was sent an error report.
    FAILED = "failed"
    #: The server (400) or the operator no longer wants it.
    CANCELLED = "cancelled"
    #: The server no longer knows it.
    LOST = "lost"


class LeaseEvent(StrEnum):
    """What can happen to a lease."""

    ORDER = "order"
    START = "start"
    DELIVER = "deliver"
    #: The attempt is over through nobody's fault (node lost or leaving); another attempt follows.
    RETRY = "retry"
    #: Its node went down while it rendered, which may be the frame's doing; another attempt follows.
    NODE_LOST = "node lost"
    #: The attempt failed; another attempt on another node follows.
    FAIL = "fail"
    #: The attempt gave a picture that is held back until a second one agrees with it or not.
    HOLD_BACK = "hold back"
    #: The picture that is held back is right.
    BELIEVE = "believe"
    #: The attempt is over without a picture, and it was the last.
    GIVE_UP = "give up"
    ACCEPT = "accept"
    REFUSE = "refuse"
    CANCEL = "cancel"
    #: The server no longer knows the lease.
    LOSE = "lose"


S, E = LeaseState, LeaseEvent

ACTIVE = frozenset({S.GRANTED, S.ORDERED, S.RENDERING, S.DELIVERED})
ENDED = frozenset(S) - ACTIVE

#: (state, event) → next state. What is not here is illegal.
TRANSITIONS: dict[tuple[LeaseState, LeaseEvent], LeaseState] = {
    (S.GRANTED, E.ORDER): S.ORDERED,
    (S.ORDERED, E.START): S.RENDERING,
    (S.RENDERING, E.DELIVER): S.DELIVERED,
    (S.ORDERED, E.RETRY): S.GRANTED,
    (S.RENDERING, E.RETRY): S.GRANTED,
    (S.RENDERING, E.NODE_LOST): S.GRANTED,
    (S.ORDERED, E.FAIL): S.GRANTED,
    (S.RENDERING, E.FAIL): S.GRANTED,
    (S.RENDERING, E.HOLD_BACK): S.GRANTED,
    (S.GRANTED, E.BELIEVE): S.DELIVERED,
    (S.ORDERED, E.BELIEVE): S.DELIVERED,
    (S.RENDERING, E.BELIEVE): S.DELIVERED,
    # A spooled picture that is gone or unreadable when its turn to upload comes is rendered again.
    (S.DELIVERED, E.RETRY): S.GRANTED,
    (S.GRANTED, E.GIVE_UP): S.FAILED,
    (S.ORDERED, E.GIVE_UP): S.FAILED,
    (S.RENDERING, E.GIVE_UP): S.FAILED,
    (S.DELIVERED, E.GIVE_UP): S.FAILED,
    (S.DELIVERED, E.ACCEPT): S.ACCEPTED,
    (S.DELIVERED, E.REFUSE): S.REFUSED,
    **{(state, E.CANCEL): S.CANCELLED for state in sorted(ACTIVE)},
    **{(state, E.LOSE): S.LOST for state in sorted(ACTIVE)},
}


#: One PC goes down for reasons of its own.
NODES_LOST_TO_SUSPECT = 2


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A picture that arrived and passed inspection."""

    #: File name inside the spool.
    picture: str
    #: Bytes.
    size: int
    #: Wall seconds from renderer start to exit.
    render_s: float
    #: Peak memory, kB.
    memory_kb: int
    #: Threads the renderer could use.
    cores: int
    #: The picture is wholly black or transparent.
    is_empty: bool = False
    #: It was rendered twice, or continues frames that were: this is how the scene looks.
    is_confirmed: bool = False


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """A picture that waits in the spool for a second opinion."""

    #: Who made it.
    node_id: str
    delivery: Delivery


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One frame the server gave us."""

    #: Random hex, ours; the server knows only job and frame.
    id: str
    #: Which server session holds it (:attr:`coordinator.upstream.session.FarmSession.key`).
    session_key: str
    offer: JobOffer
    state: LeaseState = LeaseState.GRANTED
    #: Counts from 1; the fence every claim must name.
    attempt: int = 1
    #: The node of the current attempt, once ordered.
    node_id: str | None = None
    #: Present from DELIVERED on.
    delivery: Delivery | None = None
    #: Attempts that failed; lost nodes do not count.
    failures: int = 0
    #: Nodes that went down while they rendered it.
    nodes_lost: int = 0
    #: Nodes whose attempts failed, oldest first.
    tried_nodes: tuple[str, ...] = ()
    #: What an earlier attempt gave and nobody has agreed with yet.
    held_back: HeldBack | None = None
    #: Unix seconds.
    granted_at: float = 0.0
    #: Unix seconds of the last transition.
    changed_at: float = 0.0
    #: Why the last attempt or the lease ended, for a person.
    reason: str = ""

    @property
    def job_name(self) -> str:
        """What a person calls the job: the server's name for it, else the scene's file name."""
        return self.offer.name or self.offer.path.rsplit("/", 1)[-1] or self.offer.job_id

    @property
    def scene_key(self) -> str:
        """The name of its scene in orders and in nodes' presence records."""
        return scene_key(self.offer.scene_md5s)

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what takes its nodes down: it is tried once more, and no other frame beside it."""
        return self.nodes_lost >= NODES_LOST_TO_SUSPECT

    @property
    def label(self) -> str:
        """``frame 0012 · demo``, as people read it in logs and in Flower."""
        return f"frame {self.offer.frame} · {self.job_name}"


def unchanged_s(lease: Lease, now: float, began_at: float) -> float:
    """For how long nothing happened to the lease, in seconds, by a steady clock that began at ``began_at``.

    A change from before that was written down by another clock, which may have been wrong: it counts as if it had
    happened when this one began.
    """
    return now - (lease.changed_at if began_at <= lease.changed_at <= now else began_at)


def advance(
    lease: Lease,
    event: LeaseEvent,
    *,
    attempt: int | None = None,
    node_id: str | None = None,
    delivery: Delivery | None = None,
    reason: str = "",
) -> Lease:
    """The lease after ``event``.

    ``attempt`` is the fence: a claim that names one is checked against the current attempt first; ``None`` is for the
    coordinator's own decisions. ``node_id`` is the ordered node, ``delivery`` what arrived. A step back
    to GRANTED raises the attempt; after a FAIL it also remembers the node, after a HOLD_BACK the picture.

    Raises :class:`StaleAttempt` or :class:`IllegalTransition`; the given lease is never changed.
    """
    if attempt is not None and attempt != lease.attempt:
        raise StaleAttempt(attempt, lease.attempt)
    try:
        state = TRANSITIONS[lease.state, event]
    except KeyError:
        raise IllegalTransition(lease.state, event) from None
    reason = reason or lease.reason
    if state is LeaseState.GRANTED:
        return _granted_again(lease, event, delivery, reason)
    if event is LeaseEvent.BELIEVE:
        return _believed(lease, reason)
    return replace(
        lease,
        state=state,
        node_id=node_id or lease.node_id,
        delivery=delivery or lease.delivery,
        held_back=None if state is LeaseState.DELIVERED else lease.held_back,
        reason=reason,
    )


def _granted_again(lease: Lease, event: LeaseEvent, delivery: Delivery | None, reason: str) -> Lease:
    failed, held_back = event is LeaseEvent.FAIL, lease.held_back
    if event is LeaseEvent.HOLD_BACK:
        if delivery is None or lease.node_id is None:
            raise NothingHeldBack(lease.label)
        held_back = HeldBack(node_id=lease.node_id, delivery=delivery)
    return replace(
        lease,
        state=LeaseState.GRANTED,
        attempt=lease.attempt + 1,
        node_id=None,
        delivery=None,
        failures=lease.failures + failed,
        nodes_lost=lease.nodes_lost + (event is LeaseEvent.NODE_LOST),
        tried_nodes=(*lease.tried_nodes, lease.node_id) if failed and lease.node_id else lease.tried_nodes,
        held_back=held_back,
        reason=reason,
    )


def _believed(lease: Lease, reason: str) -> Lease:
    if lease.held_back is None:
        raise NothingHeldBack(lease.label)
    return replace(
        lease,
        state=LeaseState.DELIVERED,
        node_id=lease.held_back.node_id,
        delivery=replace(lease.held_back.delivery, is_confirmed=True),
        held_back=None,
        reason=reason,
    )
