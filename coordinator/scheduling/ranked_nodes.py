"""Nodes sorted by how busy they are, and by what they have open or hold. Pure: no I/O, no clock, no lock.

The nodes stay in the order of choice (:mod:`coordinator.scheduling.node_index`) while records and leases come in one by
one, so that a choice looks at a few nodes and not at a thousand. It is known what a node *will* have open by what was
ordered from it last; its record says so only after the fact.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from coordinator.leases.lease import Lease
from sheepfold.contract.presence import Presence
from sheepfold.protocol.messages import ComputeMethod

from .look_ahead import look_ahead_of, new_pace
from .matching import Requirements, can_render, compute_method

#: So many holders of an archive are looked at one by one, rather than all nodes with capacity for one that holds it.
FEW = 16
#: A node's place in the order of choice: busy share, cores (negative), name, id.
Rank = tuple[float, int, str, str]


@dataclass
class IndexedNode:
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
class NodeGroup:
    """The nodes one server session speaks for."""

    #: Nodes with a free slot, and nodes where an order would wait; each in the order of choice.
    free: list[Rank] = field(default_factory=list)
    waiting: list[Rank] = field(default_factory=list)
    places: Counter[ComputeMethod] = field(default_factory=Counter)


class ExclusiveNodes:
    """Nodes that have a suspect frame, and nodes that are emptied for one.

    A frame under which two nodes went down is tried once more, with no other frame beside it: should it take that node
    down as well, nothing else is lost, and it is known to be the frame. A node is *closed* to others while it renders
    such a frame, and while it is emptied for one: on a busy farm no node would ever be without a frame by itself.
    """

    def __init__(self) -> None:
        self._suspects: Counter[str] = Counter()
        #: Lease → the node that is emptied for it.
        self._emptied: dict[str, str] = {}

    def is_closed(self, node_id: str) -> bool:
        """Whether no other frame may be placed there."""
        return self._suspects[node_id] > 0 or node_id in self._emptied.values()

    def has_suspect(self, node_id: str) -> bool:
        """Whether a suspect frame is there already."""
        return self._suspects[node_id] > 0

    def count(self, node_id: str, by: int) -> None:
        """A suspect frame comes to a node, or leaves it."""
        self._suspects[node_id] += by

    def emptied_for(self, lease_id: str) -> str | None:
        """The node that is emptied for a lease."""
        return self._emptied.get(lease_id)

    def empty(self, node_id: str, lease_id: str) -> None:
        """From now on the node is emptied for this lease."""
        self._emptied[lease_id] = node_id

    def keep_only(self, lease_ids: Collection[str]) -> set[str]:
        """Forgets the leases that no longer wait; the nodes that were emptied for them."""
        gone = self._emptied.keys() - set(lease_ids)
        return {self._emptied.pop(lease_id) for lease_id in gone}


class RankedNodes:
    """The nodes that may get orders. Not thread-safe: whoever owns it holds a lock.

    ``look_ahead``: orders a node may hold beside one for each slot, for each slot.
    """

    def __init__(self, *, look_ahead: int) -> None:
        self._usual = look_ahead
        #: By node id.
        self.nodes: dict[str, IndexedNode] = {}
        self._groups: defaultdict[str, NodeGroup] = defaultdict(NodeGroup)
        self._underway: Counter[str] = Counter()
        #: Node → the scenes ordered from it last, as many as it has slots.
        self._ordered: dict[str, tuple[str, ...]] = {}
        self._paces: dict[str, float] = {}
        self._exclusive = ExclusiveNodes()
        #: Scene's key → nodes that have it open; scene's key or renderer's MD5 → nodes that hold it unpacked.
        self._warm: defaultdict[str, set[str]] = defaultdict(set)
        self._cached: defaultdict[str, set[str]] = defaultdict(set)

    def group(self, group: str) -> NodeGroup:
        """The nodes that a session speaks for; an empty group where there are none."""
        return self._groups[group]

    def put(self, node: Presence, group: str) -> None:
        """A node's latest record takes the place of the one before."""
        known = self.nodes.get(node.node_id)
        if known is not None and known.presence is node and known.group == group:
            return
        if known is not None:
            self._take_out(known)
        place = self.nodes[node.node_id] = IndexedNode(presence=node, group=group)
        self._index(self._cached, node.node_id, known.presence.archives if known else (), node.archives)
        self._note_warm(place, known.warm if known else frozenset())
        self._put_in(place)

    def remove(self, node_id: str) -> None:
        """What it has under way is still counted: it may come back."""
        place = self.nodes.pop(node_id, None)
        if place is not None:
            self._take_out(place)
            self._index(self._cached, node_id, place.presence.archives, ())
            self._index(self._warm, node_id, place.warm, ())

    def note_render(self, node_id: str, render_s: float) -> None:
        """How long a frame took there: what the node may hold beside its slots depends on it."""
        self._paces[node_id] = new_pace(self._paces.get(node_id), render_s)

    def by_warmth(self, need: Requirements, *, may_be_cold: bool) -> Iterator[set[str] | None]:
        """Holders of the scene or renderer, the warmest first; ``None`` at the end: any node."""
        yield self._warm.get(need.scene_key, set())
        if may_be_cold:
            yield self._cached.get(need.scene_key, set())
            yield self._cached.get(need.renderer_md5, set())
            yield None

    def first(
        self, tier: list[Rank], holders: set[str] | None, need: Requirements, tried: Collection[str]
    ) -> str | None:
        """The id of the first node in ``tier`` that is among ``holders``, can render it, and is not in ``tried``."""
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
            if rank[-1] not in tried and can_render(need, self.nodes[rank[-1]].presence):
                return rank[-1]
        return None

    def stop_emptying_but_for(self, lease_ids: Collection[str]) -> None:
        """Nodes that were emptied for leases that no longer wait take frames again."""
        for node_id in self._exclusive.keep_only(lease_ids):
            self._put_anew(node_id)

    def empty_node(self, need: Requirements, lease: Lease) -> str | None:
        """A node without any frame, for a suspect; where there is none, the least busy is closed to all others."""
        able = [
            node_id
            for node_id, place in self.nodes.items()
            if place.group == lease.session_key
            and place.presence.accepting
            and not self._exclusive.has_suspect(node_id)
            and can_render(need, place.presence)
        ]
        able = [node_id for node_id in able if node_id not in need.tried] or able
        best = min(able, key=lambda node_id: (self._underway[node_id], node_id), default=None)
        if best is None or not self._underway[best]:
            return best
        if self._exclusive.emptied_for(lease.id) not in able:
            self._exclusive.empty(best, lease.id)
            self._put_anew(best)
        return None

    def _put_anew(self, node_id: str) -> None:
        """Whether it is closed to others has changed."""
        place = self.nodes.get(node_id)
        if place is not None:
            self._take_out(place)
            self._put_in(place)

    def _of(self, node_ids: set[str]) -> Iterator[IndexedNode]:
        return (self.nodes[node_id] for node_id in node_ids if node_id in self.nodes)

    @staticmethod
    def _is_in(tier: list[Rank], rank: Rank) -> bool:
        at = bisect_left(tier, rank)
        return at < len(tier) and tier[at] == rank

    def count(self, node_id: str, by: int, scene: str | None, *, is_suspect: bool) -> None:
        """An order more or less at a node; ``scene`` is the key of what was ordered."""
        place = self.nodes.get(node_id)
        if place is not None:
            self._take_out(place)
        self._underway[node_id] += by
        if is_suspect:
            self._exclusive.count(node_id, by)
        if not self._underway[node_id]:
            del self._underway[node_id]
        if scene is not None:
            slots = place.presence.slots if place is not None else 1
            self._ordered[node_id] = (*self._ordered.get(node_id, ()), scene)[-slots:]
        if place is not None:
            self._note_warm(place, place.warm)
            self._put_in(place)

    def _note_warm(self, place: IndexedNode, before: frozenset[str]) -> None:
        node_id = place.presence.node_id
        ordered = frozenset(self._ordered.get(node_id, ()))
        # What waits there is what will be open; a node with nothing to do knows best what it has open.
        place.warm = ordered if self._underway[node_id] else frozenset(place.presence.warm) or ordered
        self._index(self._warm, node_id, before, place.warm)

    def _take_out(self, place: IndexedNode) -> None:
        if place.rank is not None:
            group = self._groups[place.group]
            tier = group.free if place.is_free else group.waiting
            del tier[bisect_left(tier, place.rank)]
            group.places[compute_method(place.presence)] -= place.limit - self._underway[place.presence.node_id]
            place.rank = None

    def _put_in(self, place: IndexedNode) -> None:
        node = place.presence
        underway = self._underway[node.node_id]
        place.limit = node.slots + look_ahead_of(node, self._paces.get(node.node_id), self._usual)
        if not node.accepting or underway >= place.limit or self._exclusive.is_closed(node.node_id):
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
