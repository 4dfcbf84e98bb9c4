"""What to do next for an archive that is being fetched in pieces. Pure: no I/O, and every call is told the time.

::

    1. a piece that nobody else is known to have, from the coordinator: only so does it get among the nodes at all
    2. a look at a node of which nothing useful is known
    3. a piece that nodes have, the rarest of a sample first, from the least busy of them
    4. any piece from the coordinator, when the nodes are slow
    5. a piece that is under way for long, once more and from somebody else: whoever is first counts

Fifty PCs share the coordinator's link, so it sends what only it has, one piece at a time to each node that knows other
nodes, and each begins with a share of its own: what two fetch from there at once is sent once too often. A peer that
failed is not asked for a while; the coordinator is left alone only for a moment, because it is the last one to ask.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sheepfold.sharing.pieces import all_of, numbers_in

#: Requests to the coordinator at the same time: two keep its link busy where there are no other nodes.
COORDINATOR_AT_ONCE, COORDINATOR_AMONG_NODES = 2, 1
#: Requests to one node at the same time.
NODE_AT_ONCE = 2
#: Looks at nodes at the same time; each may wait a second for a PC that was just switched off.
LOOKS_AT_ONCE = 2
#: What a node has changes all the time: it is asked again when we want nothing that it had, or knew nothing for long.
LOOK_AGAIN_S, LOOK_ANYWAY_S = 0.25, 1.0
#: Nothing came for this long: the nodes are slow.
SLOW_AFTER_S = 1.0
#: A piece that is under way for this long may be asked of somebody else, when nothing better is to do.
AGAIN_AFTER_S = 2.0
#: A busy peer is asked again soon; half of it is jitter.
BUSY_BACK_OFF_S = 0.06
#: A node that could not be reached, or sent wrong bytes, is not asked for this long.
UNREACHABLE_S, BAN_S = 10.0, 300.0
#: The coordinator, when it failed.
COORDINATOR_BACK_OFF_S = 0.5
#: More nodes than this are not kept in mind; the coordinator names a few others every second.
NODES_KNOWN = 16
#: The rarest piece is looked for among so many, chosen by chance.
SAMPLED_PIECES = 24


@dataclass(kw_only=True)
class Peer:
    """A node or the coordinator that serves the archive."""

    #: Root URL of its archive server.
    url: str
    is_coordinator: bool = False
    #: The pieces it is known to have.
    pieces: int = 0
    heard_at: float = -math.inf
    backs_off_until: float = -math.inf
    #: Requests of ours under way.
    requests: int = 0
    is_looked_at: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class PieceRequest:
    """Something to ask of a peer."""

    peer: Peer
    #: ``None``: which pieces it has.
    piece: int | None
    since: float


@dataclass
class PiecePicker:
    """The pieces still missing, the peers, and the requests under way. Not thread-safe."""

    count: int
    coordinator: Peer
    began_at: float
    #: Where this node serves it: its place among the others.
    own_url: str = ""
    chance: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self.missing = all_of(self.count)
        self.nodes: dict[str, Peer] = {}
        self._under_way: dict[int, list[PieceRequest]] = {}
        self._looks = 0
        self._came_at = self.began_at

    # What became of requests.

    def add_nodes(self, urls: Iterable[str], avoided: Collection[str], now: float) -> None:
        """The coordinator named these nodes; those to avoid are left out."""
        for url in urls:
            if url not in self.nodes and url not in avoided:
                self.nodes[url] = Peer(url=url)
        idle = [node for node in self.nodes.values() if not node.requests]
        useless = [node for node in idle if node.backs_off_until > now or not node.pieces]
        for node in useless[: max(0, len(self.nodes) - NODES_KNOWN)]:
            del self.nodes[node.url]

    def start(self, request: PieceRequest) -> None:
        """A request was sent; :meth:`finish` follows, whatever comes of it."""
        request.peer.requests += 1
        if request.piece is None:
            self._looks, request.peer.is_looked_at = self._looks + 1, True
        else:
            self._under_way.setdefault(request.piece, []).append(request)

    def finish(self, request: PieceRequest) -> None:
        """A request has ended, whatever came of it."""
        request.peer.requests -= 1
        if request.piece is None:
            self._looks, request.peer.is_looked_at = self._looks - 1, False
            return
        requests = self._under_way[request.piece]
        requests.remove(request)
        if not requests:
            del self._under_way[request.piece]

    def set_pieces(self, peer: Peer, pieces: int, now: float) -> None:
        """A peer said which pieces it has."""
        peer.pieces, peer.heard_at = pieces, now

    def mark_received(self, piece: int, now: float) -> None:
        """A piece was received and its sum is right."""
        self.missing &= ~(1 << piece)
        self._came_at = now

    def back_off(self, peer: Peer, seconds: float, now: float) -> None:
        """Asks a peer nothing for so many seconds; a longer wait that it has already stands."""
        peer.backs_off_until = max(peer.backs_off_until, now + seconds)

    # What is next.

    def next_request(self, now: float) -> PieceRequest | None:
        """``None``: nothing to do right now."""
        free = self.missing & ~sum(1 << piece for piece in self._under_way)
        nodes = [node for node in self.nodes.values() if node.backs_off_until <= now]
        found = (
            self._what_nobody_has(free, now)
            or self._a_look(free, nodes, now)
            or self._from_a_node(free, nodes)
            or self._past_slow_nodes(free, now)
            or self._once_more(nodes, now)
        )
        return PieceRequest(peer=found[0], piece=found[1], since=now) if found else None

    def _what_nobody_has(self, free: int, now: float) -> tuple[Peer, int] | None:
        # A node that is left alone for a moment still has its pieces.
        there = [node for node in self.nodes.values() if node.backs_off_until <= now + SLOW_AFTER_S]
        at_once = COORDINATOR_AMONG_NODES if there else COORDINATOR_AT_ONCE
        only_there = free & ~_union(node.pieces for node in there)
        if not only_there or not self._coordinator_takes(at_once, now):
            return None
        pieces = numbers_in(only_there)
        return self.coordinator, self.chance.choice(self._own_share(pieces) or pieces)

    def _own_share(self, pieces: list[int]) -> list[int]:
        """Every n-th piece, and no two nodes that know the same n nodes begin with the same ones."""
        urls = sorted({self.own_url, *self.nodes})
        own = urls.index(self.own_url)
        return [piece for piece in pieces if piece % len(urls) == own]

    def _a_look(self, free: int, nodes: list[Peer], now: float) -> tuple[Peer, None] | None:
        if not free or self._looks >= LOOKS_AT_ONCE:
            return None
        for node in self.chance.sample(nodes, len(nodes)):
            patience = LOOK_ANYWAY_S if node.pieces & free else LOOK_AGAIN_S
            if not node.is_looked_at and now - node.heard_at >= patience:
                return node, None
        return None

    def _from_a_node(self, free: int, nodes: list[Peer]) -> tuple[Peer, int] | None:
        able = [node for node in nodes if node.requests < NODE_AT_ONCE and node.pieces & free]
        there = numbers_in(free & _union(node.pieces for node in able)) if able else []
        if not there:
            return None
        some = self.chance.sample(there, min(SAMPLED_PIECES, len(there)))
        piece = min(some, key=lambda number: sum(node.pieces >> number & 1 for node in nodes))
        having = [node for node in able if node.pieces >> piece & 1]
        return min(having, key=lambda node: (node.requests, self.chance.random())), piece

    def _past_slow_nodes(self, free: int, now: float) -> tuple[Peer, int] | None:
        if not free or now - self._came_at < SLOW_AFTER_S or not self._coordinator_takes(COORDINATOR_AT_ONCE, now):
            return None
        return self.coordinator, self.chance.choice(numbers_in(free))

    def _once_more(self, nodes: list[Peer], now: float) -> tuple[Peer, int] | None:
        for piece, requests in self._under_way.items():
            if len(requests) > 1 or now - requests[0].since < AGAIN_AFTER_S:
                continue
            others = [node for node in nodes if node.pieces >> piece & 1 and node.requests < NODE_AT_ONCE]
            if self._coordinator_takes(COORDINATOR_AT_ONCE, now):
                others.append(self.coordinator)
            others = [peer for peer in others if peer is not requests[0].peer]
            if others:
                return others[-1], piece
        return None

    def _coordinator_takes(self, at_once: int, now: float) -> bool:
        return self.coordinator.requests < at_once and self.coordinator.backs_off_until <= now


def _union(sets: Iterable[int]) -> int:
    together = 0
    for pieces in sets:
        together |= pieces
    return together
