"""The farm's nodes in the order of choice: which node gets which offer. Pure: no I/O, no clock.

Among the nodes that qualify (:mod:`coordinator.scheduling.matching`) the first of this order wins:

1. one that has not failed this lease yet,
2. one with a free slot before one where the order would wait (look-ahead): no node stands idle for the sake of warmth,
3. one with the scene open in a Blender, then one that holds the scene, then one that holds the renderer,
4. the least busy for its slots, then the one with the most cores,
5. by name, so that the same farm always decides the same.

A farm that works on several jobs at once first gives every free slot a frame of the scene it has open, and only then
whatever is left (:meth:`NodeIndex.match`).

The :class:`NodeIndex` keeps the nodes in this order while records and leases come in one by one, so that a choice looks
at a few nodes and not at a thousand. It knows what a node *will* have open by what was ordered from it last; its record
says so only after the fact.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from coordinator.leases.lease import Lease, LeaseState
from sheepfold.contract.presence import Presence
from sheepfold.protocol.messages import ComputeMethod

from .look_ahead import look_ahead_of, new_pace
from .matching import Capacity, ColdStart, PendingLease, Requirements, can_render, compute_method

_WITH_NODES = (LeaseState.ORDERED, LeaseState.RENDERING)
#: So long a frame rather waits for a PC that has its scene open, or for a free slot, than behind another scene's frame.
#: Simulated with 50 PCs, 8 jobs and frames of 10 s: 8 % of the renders begin cold, with 2 s it is 27 %, with none 87 %.
WARMTH_WORTH_S = 10.0
#: So many holders of an archive are looked at one by one, rather than all nodes with capacity for one that holds it.
FEW = 16
#: A node's place in the order of choice: busy share, cores (negative), name, id.
Rank = tuple[float, int, str, str]


@dataclass
class _IndexedNode:
    """A node as the index knows it."""

    presence: Presence
    group: str
    #: Orders it may hold.
    limit: int = 0
    #: Scenes it has open when the next order reaches it.
    warm: frozenset[str] = frozenset()
    #: Where it stands among the free or the waiting ones of its group; ``None`` while it has no capacity.
    rank: Rank | None = None
    is_free: bool = False


@dataclass
class _Group:
    """The nodes one server session speaks for."""

    #: Nodes with a free slot, and nodes where an order would wait; each in the order of choice.
    free: list[Rank] = field(default_factory=list)
    waiting: list[Rank] = field(default_factory=list)
    places: Counter[ComputeMethod] = field(default_factory=Counter)


class NodeIndex:
    """The nodes that may get orders, and what each has in hand. Thread-safe.

    :meth:`see` and :meth:`leave` follow the presence records, :meth:`follow` the ledger.
    """

    def __init__(self, *, look_ahead: int) -> None:
        self._usual = look_ahead
        self._lock = threading.Lock()
        self._places: dict[str, _IndexedNode] = {}
        self._groups: defaultdict[str, _Group] = defaultdict(_Group)
        self._underway: Counter[str] = Counter()
        #: Lease → the node it was chosen for, until the ledger says so.
        self._expected: dict[str, str] = {}
        #: Node → the scenes ordered from it last, as many as it has slots.
        self._ordered: dict[str, tuple[str, ...]] = {}
        self._paces: dict[str, float] = {}
        #: Scene's key → nodes that have it open; scene's key or renderer's MD5 → nodes that hold it unpacked.
        self._warm: defaultdict[str, set[str]] = defaultdict(set)
        self._cached: defaultdict[str, set[str]] = defaultdict(set)

    # What happens

    def upsert(self, node: Presence, group: str) -> None:
        """A node that may get orders, as its latest record describes it."""
        with self._lock:
            known = self._places.get(node.node_id)
            if known is not None and known.presence is node and known.group == group:
                return
            if known is not None:
                self._take_out(known)
            place = self._places[node.node_id] = _IndexedNode(presence=node, group=group)
            self._index(self._cached, node.node_id, known.presence.archives if known else (), node.archives)
            self._note_warm(place, known.warm if known else frozenset())
            self._put_in(place)

    def remove(self, node_id: str) -> None:
        """It gets no more orders: it is gone, or quarantined."""
        with self._lock:
            place = self._places.pop(node_id, None)
            if place is not None:
                self._take_out(place)
                self._index(self._cached, node_id, place.presence.archives, ())
                self._index(self._warm, node_id, place.warm, ())

    def nodes(self) -> dict[str, Presence]:
        """A copy, by node id: nodes may come and go while it is read."""
        with self._lock:
            return {node_id: place.presence for node_id, place in self._places.items()}

    def on_lease_change(self, before: Lease | None, after: Lease) -> None:
        """A step of a lease (:data:`coordinator.leases.ledger.Watcher`)."""
        had = before.node_id if before is not None and before.state in _WITH_NODES else None
        has = after.node_id if after.state in _WITH_NODES else None
        with self._lock:
            had = had or self._expected.pop(after.id, None)
            if after.state is LeaseState.DELIVERED and after.delivery and had:
                self._paces[had] = new_pace(self._paces.get(had), after.delivery.render_s)
            if had == has:
                return
            if had:
                self._count(had, -1, None)
            if has:
                self._count(has, +1, after.scene_key)

    def reserve(self, lease: Lease, node_id: str) -> None:
        """The node is about to get this lease; the next choice must know before the ledger does."""
        with self._lock:
            self._expected[lease.id] = node_id
            self._count(node_id, +1, lease.scene_key)

    def release(self, lease: Lease) -> None:
        """The ledger has been asked: an expectation that it did not fulfil is none."""
        with self._lock:
            node_id = self._expected.pop(lease.id, None)
            if node_id:
                self._count(node_id, -1, None)

    # What is asked

    def capacity(self, group: str) -> Capacity:
        """Places left at the nodes of a group."""
        with self._lock:
            places = self._groups[group].places
            return Capacity(
                cpu_only=places[ComputeMethod.CPU_ONLY],
                gpu_only=places[ComputeMethod.GPU_ONLY],
                either=places[ComputeMethod.CPU_OR_GPU],
            )

    def match(self, wishes: Sequence[PendingLease]) -> dict[str, str]:
        """Lease id → node id, for every pending lease that finds a node now; its place is reserved.

        ``wishes`` stand oldest first. Those that have waited take what they can get; the others first look for free
        slots with their scene open, then for any free slot.
        """
        found: dict[str, str] = {}
        # The index only gets fuller here: where one frame of a job found no place, the others need not look.
        hopeless: set[tuple[Requirements, str, ColdStart]] = set()
        patient = [pending for pending in wishes if pending.waited_s < WARMTH_WORTH_S]
        for some, cold in (
            ([pending for pending in wishes if pending.waited_s >= WARMTH_WORTH_S], ColdStart.ANYWHERE),
            (patient, ColdStart.NOWHERE),
            (patient, ColdStart.IN_A_FREE_SLOT),
        ):
            for pending in some:
                group = pending.lease.session_key
                if pending.lease.id in found or (pending.need, group, cold) in hopeless:
                    continue
                if node_id := self.choose(pending.need, group, cold):
                    found[pending.lease.id] = node_id
                    self.reserve(pending.lease, node_id)
                else:
                    hopeless.add((pending.need, group, cold))
        return found

    def choose(self, need: Requirements, group: str, cold: ColdStart = ColdStart.ANYWHERE) -> str | None:
        """The id of the best node, or ``None`` where none qualifies; :attr:`Cold.NOWHERE` looks at free slots only."""
        with self._lock:
            here = self._groups[group]
            # A frame that failed waits for a PC that has not failed it, if there is one.
            tried = need.tried if need.tried and self._somebody_new(need, group) else ()
            tiers = [(here.free, cold is not ColdStart.NOWHERE)]
            if cold is not ColdStart.NOWHERE:
                tiers.append((here.waiting, cold is ColdStart.ANYWHERE))
            for tier, may_be_cold in tiers:
                for holders in self._by_warmth(need, may_be_cold=may_be_cold):
                    found = self._first(tier, holders, need, tried)
                    if found is not None:
                        return found
            return None

    def can_anybody(self, need: Requirements, group: str) -> bool:
        """Whether some node of the group could ever render it."""
        with self._lock:
            return any(place.group == group and can_render(need, place.presence) for place in self._places.values())

    def able(self, need: Requirements, group: str) -> set[str]:
        """The nodes of the group that could render it and take orders."""
        with self._lock:
            return {
                node_id
                for node_id, place in self._places.items()
                if place.group == group and place.presence.accepting and can_render(need, place.presence)
            }

    def _by_warmth(self, need: Requirements, *, may_be_cold: bool) -> Iterator[set[str] | None]:
        yield self._warm.get(need.scene_key, set())
        if may_be_cold:
            yield self._cached.get(need.scene_key, set())
            yield self._cached.get(need.renderer_md5, set())
            yield None

    def _first(
        self, tier: list[Rank], holders: set[str] | None, need: Requirements, tried: Collection[str]
    ) -> str | None:
        if not tier or (holders is not None and not holders):
            return None
        ranks: list[Rank] | Iterator[Rank]
        if holders is None:
            ranks = tier
        elif len(holders) <= FEW and len(holders) < len(tier):
            ranks = sorted(place.rank for place in self._of(holders) if place.rank and self._is_in(tier, place.rank))
        else:
            ranks = (rank for rank in tier if rank[-1] in holders)
        for rank in ranks:
            if rank[-1] not in tried and can_render(need, self._places[rank[-1]].presence):
                return rank[-1]
        return None

    def _of(self, node_ids: set[str]) -> Iterator[_IndexedNode]:
        return (self._places[node_id] for node_id in node_ids if node_id in self._places)

    @staticmethod
    def _is_in(tier: list[Rank], rank: Rank) -> bool:
        at = bisect_left(tier, rank)
        return at < len(tier) and tier[at] == rank

    def _somebody_new(self, need: Requirements, group: str) -> bool:
        return any(
            place.group == group
            and place.presence.accepting
            and place.presence.node_id not in need.tried
            and can_render(need, place.presence)
            for place in self._places.values()
        )

    # The order of choice

    def _count(self, node_id: str, by: int, scene: str | None) -> None:
        place = self._places.get(node_id)
        if place is not None:
            self._take_out(place)
        self._underway[node_id] += by
        if not self._underway[node_id]:
            del self._underway[node_id]
        if scene is not None:
            slots = place.presence.slots if place is not None else 1
            self._ordered[node_id] = (*self._ordered.get(node_id, ()), scene)[-slots:]
        if place is not None:
            self._note_warm(place, place.warm)
            self._put_in(place)

    def _note_warm(self, place: _IndexedNode, before: frozenset[str]) -> None:
        node_id = place.presence.node_id
        ordered = frozenset(self._ordered.get(node_id, ()))
        # What waits there is what will be open; a node with nothing to do knows best what it has open.
        place.warm = ordered if self._underway[node_id] else frozenset(place.presence.warm) or ordered
        self._index(self._warm, node_id, before, place.warm)

    def _take_out(self, place: _IndexedNode) -> None:
        if place.rank is not None:
            group = self._groups[place.group]
            tier = group.free if place.is_free else group.waiting
            del tier[bisect_left(tier, place.rank)]
            group.places[compute_method(place.presence)] -= place.limit - self._underway[place.presence.node_id]
            place.rank = None

    def _put_in(self, place: _IndexedNode) -> None:
        node = place.presence
        underway = self._underway[node.node_id]
        place.limit = node.slots + look_ahead_of(node, self._paces.get(node.node_id), self._usual)
        if not node.accepting or underway >= place.limit:
            return
        group = self._groups[place.group]
        place.rank = (underway / node.slots, -node.hardware.cpu_cores, node.name, node.node_id)
        place.is_free = underway < node.slots
        insort(group.free if place.is_free else group.waiting, place.rank)
        group.places[compute_method(node)] += place.limit - underway

    @staticmethod
    def _index(
        index: defaultdict[str, set[str]], node_id: str, before: Collection[str], after: Collection[str]
    ) -> None:
        if before == after:
            return
        old, new = set(before), set(after)
        for key in old - new:
            index[key].discard(node_id)
            if not index[key]:
                del index[key]
        for key in new - old:
            index[key].add(node_id)
