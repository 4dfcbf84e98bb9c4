"""Fetches archives in pieces, from other nodes and from the coordinator.

What to ask next is decided by :mod:`render_tasks.archives.piece_picker`; here are the threads that do it. A node that
is slow, gone, or sends wrong bytes delays its own pieces and nothing else: they are asked of another peer, in the end
of the coordinator. Only when nothing has come for :data:`STALLED_AFTER_S` is the fetch given up, as if the coordinator
were silent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from render_tasks.errors import (
    ArchiveMissing,
    AttemptDropped,
    BadArchive,
    CoordinatorError,
    CoordinatorUnreachable,
    PeerBusy,
    PeerError,
    PeerLacksPiece,
    PeerUnusable,
)
from sheepfold.contract.api_messages import ARCHIVE_URL, ArchiveManifest, ArchiveSources, archive_pass
from sheepfold.contract.orders import ArchiveRef
from sheepfold.sharing.pieces import all_of, from_text, pieces_in, span_of

from .partial_archive import PartialArchive
from .peer_client import COORDINATOR_TIMEOUTS, NODE_TIMEOUTS, PeerClient
from .piece_picker import BAN_S, BUSY_BACK_OFF_S, COORDINATOR_BACK_OFF_S, UNREACHABLE_S, Peer, PiecePicker, PieceRequest

log = logging.getLogger(__name__)

#: Requests under way for one archive.
REQUESTS_AT_ONCE = 6
#: Seconds until the coordinator is asked for other nodes again: soon at first, because everybody begins at once.
FIRST_ASK_S, ASK_EVERY_S = 0.1, 1.0
#: Nothing came for this long, from anybody: long enough for a coordinator that is started anew.
STALLED_AFTER_S = 30.0
#: How soon threads see that there is something to do, or that they are no longer wanted.
LOOK_EVERY_S = 0.1
#: The coordinator's own pieces may be wrong so often before its archive is.
WRONG_FROM_COORDINATOR = 3


class ManifestSource(Protocol):
    """What the coordinator knows about archives (:class:`render_tasks.coordinator_client.CoordinatorClient`)."""

    def plan(self, ref: ArchiveRef, node_id: str, own_url: str) -> ArchiveManifest: ...
    def sources(self, md5: str, node_id: str, own_url: str) -> ArchiveSources: ...


class Swarm:
    """Fetches archives for one node. Thread-safe."""

    def __init__(
        self,
        manifests: ManifestSource,
        archive_key: str,
        node_id: str,
        own_url: Callable[[], str] = lambda: "",
        *,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._manifests, self._key, self._node_id, self.own_url = manifests, archive_key, node_id, own_url
        self._stalled_after_s = stalled_after_s
        #: Root URL of nodes that are not asked, and until when; who sends wrong bytes of one archive does so of others.
        self._avoided_until: dict[str, float] = {}

    def plan(self, ref: ArchiveRef) -> ArchiveManifest:
        """How an archive is fetched; tells the coordinator that it is about to be.

        Raises CoordinatorError, BadArchive.
        """
        plan = self._manifests.plan(ref, self._node_id, self.own_url())
        if (plan.md5, plan.size) != (ref.md5, ref.size):
            raise BadArchive(f"archive {ref.md5} has {plan.size} bytes at the coordinator, not {ref.size}")
        return plan

    def fill(self, arriving: PartialArchive, stopped: Callable[[], bool]) -> None:
        """Fetches every piece.

        Raises CoordinatorUnreachable, ArchiveMissing, BadArchive, OSError, or AttemptDropped when ``stopped`` turns
        true.
        """
        fetch = _PieceDownload(self, arriving)
        try:
            fetch.run(stopped)
        finally:
            fetch.end()
        log.info("archive %s is here: %s", arriving.plan.md5, fetch.summary())

    def ask_again(self, md5: str) -> ArchiveSources:
        """The peers that have an archive by now. Raises CoordinatorError."""
        return self._manifests.sources(md5, self._node_id, self.own_url())

    def client_for(self, md5: str) -> PeerClient:
        """A client that shows peers the archive's pass; the caller closes it."""
        return PeerClient(md5, archive_pass(self._key, md5))

    def avoid(self, url: str, seconds: float) -> None:
        """Asks a node for nothing, of any archive, for so many seconds."""
        self._avoided_until[url] = max(self._avoided_until.get(url, 0.0), time.monotonic() + seconds)

    def avoided(self) -> frozenset[str]:
        """The nodes that are left alone now."""
        now = time.monotonic()
        self._avoided_until = {url: until for url, until in list(self._avoided_until.items()) if until > now}
        return frozenset(self._avoided_until)

    @property
    def stalled_after_s(self) -> float:
        """Without a piece for so long, a fetch is given up."""
        return self._stalled_after_s


class _PieceDownload:
    """One archive while it is fetched."""

    def __init__(self, swarm: Swarm, arriving: PartialArchive) -> None:
        self._swarm, self._arriving, self._plan = swarm, arriving, arriving.plan
        plan, now = self._plan, time.monotonic()
        self._count = pieces_in(plan.size, plan.piece_bytes)
        coordinator = Peer(url=plan.sources.coordinator, is_coordinator=True, pieces=all_of(self._count))
        self._picker = PiecePicker(self._count, coordinator, now, swarm.own_url())
        self._client = swarm.client_for(plan.md5)
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._ended = self._asking = False
        self._began_at = self._came_at = now
        #: Bytes by the peer's root URL.
        self._bytes: Counter[str] = Counter()
        self._wrong = 0
        self._last_trouble = ""
        self._add_sources(plan.sources)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Returns when every piece is here; raises as :meth:`Swarm.fill` does."""
        for number in range(min(REQUESTS_AT_ONCE, self._count)):
            threading.Thread(target=self._work, name=f"piece-{number}", daemon=True).start()
        ask_at = self._began_at + FIRST_ASK_S
        with self._changed:
            while self._picker.missing:
                if stopped():
                    raise AttemptDropped("stopped while an archive was fetched")
                if self._error:
                    raise self._error
                now = time.monotonic()
                if now - self._came_at > self._swarm.stalled_after_s:
                    raise CoordinatorUnreachable("fetch an archive", self._last_trouble or "nothing came")
                if now >= ask_at and self._count > 1 and not self._asking:
                    ask_at, self._asking = now + ASK_EVERY_S, True
                    threading.Thread(target=self._ask_again, name="sources", daemon=True).start()
                self._changed.wait(LOOK_EVERY_S)

    def end(self) -> None:
        """Ends the download: calls under way are cut, and their threads end."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._client.close()

    def summary(self) -> str:
        """For the log: how much, how long, from whom."""
        own = self._bytes[self._plan.sources.coordinator]
        others = [url for url in self._bytes if url != self._plan.sources.coordinator]
        return (
            f"{_mb(self._plan.size)} in {time.monotonic() - self._began_at:.1f} s, {_mb(own)} from the coordinator, "
            f"{_mb(sum(self._bytes[url] for url in others))} from {len(others)} other nodes"
        )

    def _ask_again(self) -> None:
        sources, error = None, None
        try:
            sources = self._swarm.ask_again(self._plan.md5)
        except ArchiveMissing as missing:
            error = missing
        except CoordinatorError:
            pass  # pieces keep coming from whom we know
        with self._changed:
            self._asking = False
            self._error = self._error or error
            if sources:
                self._add_sources(sources)
            self._changed.notify_all()

    def _add_sources(self, sources: ArchiveSources) -> None:
        urls = [url for url in sources.nodes if ARCHIVE_URL.fullmatch(url)]
        # One piece is here from the coordinator before another node has said whether it has it.
        if self._count > 1:
            self._picker.add_nodes(urls, self._swarm.avoided(), time.monotonic())

    def _work(self) -> None:
        """One request after the other, in a thread of its own."""
        while request := self._next():
            try:
                self._do(request)
            except Exception as error:  # the disk is full, or an error of ours: the fetch has to hear of it
                with self._changed:
                    self._error = self._error or error
            with self._changed:
                self._picker.finish(request)
                self._changed.notify_all()

    def _next(self) -> PieceRequest | None:
        with self._changed:
            while not self._ended and self._picker.missing and not self._error:
                request = self._picker.next_request(time.monotonic())
                if request:
                    self._picker.start(request)
                    return request
                self._changed.wait(LOOK_EVERY_S)
        return None

    def _do(self, request: PieceRequest) -> None:
        peer = request.peer
        try:
            if request.piece is None:
                said = self._client.pieces(peer.url, NODE_TIMEOUTS)
            else:
                said = self._fetch(peer, request.piece)
            if not peer.is_coordinator:
                pieces = from_text(said, self._count)
                with self._changed:
                    self._picker.set_pieces(peer, pieces, time.monotonic())
        except (PeerError, ValueError) as error:
            self._on_error(peer, error)

    def _fetch(self, peer: Peer, piece: int) -> str:
        plan = self._plan
        start, end = span_of(piece, plan.size, plan.piece_bytes)
        timeouts = COORDINATOR_TIMEOUTS if peer.is_coordinator else NODE_TIMEOUTS
        content, said = self._client.piece(peer.url, start, end, timeouts)
        try:
            is_new = self._arriving.put(piece, content)
        except PeerUnusable as wrong:
            self._on_wrong_piece(peer, wrong)
            raise
        with self._changed:
            self._bytes[peer.url] += len(content)
            if is_new:
                self._came_at = time.monotonic()
                self._picker.mark_received(piece, self._came_at)
        return said

    def _on_wrong_piece(self, peer: Peer, wrong: PeerUnusable) -> None:
        """These were not the piece's bytes."""
        log.warning("%s sent wrong bytes, another peer is asked: %s", peer.url, wrong)
        with self._changed:
            if not peer.is_coordinator:
                self._swarm.avoid(peer.url, BAN_S)
                self._picker.back_off(peer, BAN_S, time.monotonic())
                return
            self._wrong += 1
            if self._wrong >= WRONG_FROM_COORDINATOR:
                self._error = BadArchive(f"archive {self._plan.md5} is broken at the coordinator: {wrong}")

    def _on_error(self, peer: Peer, error: Exception) -> None:
        with self._changed:
            if self._ended:
                return  # we cut the call ourselves
            now = time.monotonic()
            if isinstance(error, PeerBusy):
                self._picker.back_off(peer, BUSY_BACK_OFF_S * self._picker.chance.uniform(0.5, 1.0), now)
                return
            self._last_trouble = str(error)
            log.info("archive %s: %s", self._plan.md5, error)
            if peer.is_coordinator:
                self._picker.back_off(peer, COORDINATOR_BACK_OFF_S, now)
            elif isinstance(error, PeerLacksPiece):
                self._picker.set_pieces(peer, 0, now)  # it evicted the archive, or began anew
            else:
                self._picker.back_off(peer, UNREACHABLE_S, now)
                self._swarm.avoid(peer.url, UNREACHABLE_S)


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
