"""Fetches archives in pieces, from other nodes and from the coordinator.

What to ask next is decided by :mod:`render_tasks.archives.piece_picker`; here are the threads that do it. A node that
is slow, dead, gone or lying costs its own pieces a moment and nothing else: they are asked of somebody else, in the end
of the coordinator. Only when nothing has come for :data:`STALLED_AFTER_S` is the fetch given up, as a silent depot.
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
from .peer_client import COORDINATOR_PATIENCE, NODE_PATIENCE, PeerClient
from .piece_picker import COORDINATOR_REST_S, FULL_REST_S, LIAR_REST_S, UNFIT_REST_S, Peer, PiecePicker, PieceRequest

log = logging.getLogger(__name__)

#: Requests under way for one archive.
ERRANDS_AT_ONCE = 6
#: Seconds until the coordinator is asked for other nodes again: soon at first, because everybody begins at once.
FIRST_ASK_S, ASK_EVERY_S = 0.1, 1.0
#: Nothing came for this long, from anybody: long enough for a coordinator that is started anew.
STALLED_AFTER_S = 30.0
#: How soon threads see that there is something to do, or that they are no longer wanted.
LOOK_EVERY_S = 0.1
#: The coordinator's own pieces may be wrong so often before its archive is.
WRONG_FROM_COORDINATOR = 3


class ManifestSource(Protocol):
    """What the depot knows about archives (:class:`render_tasks.coordinator_client.CoordinatorClient`)."""

    def plan(self, ref: ArchiveRef, node_id: str, own_url: str) -> ArchiveManifest: ...
    def sources(self, md5: str, node_id: str, own_url: str) -> ArchiveSources: ...


class Swarm:
    """Every fetch of one node. Thread-safe."""

    def __init__(
        self,
        desk: ManifestSource,
        farm_token: str,
        node_id: str,
        own_url: Callable[[], str] = lambda: "",
        *,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._desk, self._token, self._node_id, self.own_url = desk, farm_token, node_id, own_url
        self._stalled_after_s = stalled_after_s
        #: Root URL of nodes that are not asked, and until when; whoever lied about one archive lies about others.
        self._unfit: dict[str, float] = {}

    def plan(self, ref: ArchiveRef) -> ArchiveManifest:
        """How an archive is fetched; tells the coordinator that it is about to be.

        Raises CoordinatorError, BadArchive.
        """
        plan = self._desk.plan(ref, self._node_id, self.own_url())
        if (plan.md5, plan.size) != (ref.md5, ref.size):
            raise BadArchive(f"archive {ref.md5} has {plan.size} bytes at the coordinator, not {ref.size}")
        return plan

    def fill(self, arriving: PartialArchive, stopped: Callable[[], bool]) -> None:
        """Brings every piece.

        Raises CoordinatorUnreachable, ArchiveMissing, BadArchive, OSError, or AttemptDropped when ``stopped`` turns
        true.
        """
        fetch = _PieceDownload(self, arriving)
        try:
            fetch.run(stopped)
        finally:
            fetch.end()
        log.info("archive %s is here: %s", arriving.plan.md5, fetch.told())

    def ask_again(self, md5: str) -> ArchiveSources:
        """Where an archive can be had by now."""
        return self._desk.sources(md5, self._node_id, self.own_url())

    def client_for(self, md5: str) -> PeerClient:
        """Shows sources the archive's pass."""
        return PeerClient(md5, archive_pass(self._token, md5))

    def avoid(self, url: str, seconds: float) -> None:
        """Leaves a node alone, whatever is fetched next."""
        self._unfit[url] = max(self._unfit.get(url, 0.0), time.monotonic() + seconds)

    def avoided(self) -> frozenset[str]:
        """The nodes that are left alone now."""
        now = time.monotonic()
        self._unfit = {url: until for url, until in list(self._unfit.items()) if until > now}
        return frozenset(self._unfit)

    @property
    def stalled_after_s(self) -> float:
        """Without a piece for so long, a fetch is given up."""
        return self._stalled_after_s


class _PieceDownload:
    """One archive's way here."""

    def __init__(self, swarm: Swarm, arriving: PartialArchive) -> None:
        self._swarm, self._arriving, self._plan = swarm, arriving, arriving.plan
        plan, now = self._plan, time.monotonic()
        self._count = pieces_in(plan.size, plan.piece_bytes)
        coordinator = Peer(url=plan.sources.coordinator, is_coordinator=True, pieces=all_of(self._count))
        self._board = PiecePicker(self._count, coordinator, now, swarm.own_url())
        self._client = swarm.client_for(plan.md5)
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._ended = self._asking = False
        self._began_at = self._came_at = now
        #: Bytes by the source's root URL.
        self._bytes: Counter[str] = Counter()
        self._wrong = 0
        self._last_trouble = ""
        self._told(plan.sources)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Until everything is here."""
        for number in range(min(ERRANDS_AT_ONCE, self._count)):
            threading.Thread(target=self._go, name=f"piece-{number}", daemon=True).start()
        ask_at = self._began_at + FIRST_ASK_S
        with self._changed:
            while self._board.missing:
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
        """Nobody waits any more; threads that are on their way find their way cut."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._client.close()

    def told(self) -> str:
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
                self._told(sources)
            self._changed.notify_all()

    def _told(self, sources: ArchiveSources) -> None:
        urls = [url for url in sources.nodes if ARCHIVE_URL.fullmatch(url)]
        # One piece is here from the coordinator before another node has said whether it has it.
        if self._count > 1:
            self._board.told(urls, self._swarm.avoided(), time.monotonic())

    def _go(self) -> None:
        """A thread's life: one errand after the other."""
        while errand := self._next():
            try:
                self._do(errand)
            except Exception as error:  # the disk is full, or an error of ours: the fetch has to hear of it
                with self._changed:
                    self._error = self._error or error
            with self._changed:
                self._board.ended(errand)
                self._changed.notify_all()

    def _next(self) -> PieceRequest | None:
        with self._changed:
            while not self._ended and self._board.missing and not self._error:
                errand = self._board.next_errand(time.monotonic())
                if errand:
                    self._board.began(errand)
                    return errand
                self._changed.wait(LOOK_EVERY_S)
        return None

    def _do(self, errand: PieceRequest) -> None:
        source = errand.source
        try:
            if errand.piece is None:
                said = self._client.pieces(source.url, NODE_PATIENCE)
            else:
                said = self._fetch(source, errand.piece)
            if not source.is_coordinator:
                pieces = from_text(said, self._count)
                with self._changed:
                    self._board.heard(source, pieces, time.monotonic())
        except (PeerError, ValueError) as error:
            self._troubled_by(source, error)

    def _fetch(self, source: Peer, piece: int) -> str:
        plan = self._plan
        start, end = span_of(piece, plan.size, plan.piece_bytes)
        patience = COORDINATOR_PATIENCE if source.is_coordinator else NODE_PATIENCE
        content, said = self._client.piece(source.url, start, end, patience)
        try:
            is_new = self._arriving.put(piece, content)
        except PeerUnusable as wrong:
            self._was_wrong(source, wrong)
            raise
        with self._changed:
            self._bytes[source.url] += len(content)
            if is_new:
                self._came_at = time.monotonic()
                self._board.came(piece, self._came_at)
        return said

    def _was_wrong(self, source: Peer, wrong: PeerUnusable) -> None:
        """These were not the piece's bytes."""
        log.warning("%s sent wrong bytes: %s", source.url, wrong)
        with self._changed:
            if not source.is_coordinator:
                self._swarm.avoid(source.url, LIAR_REST_S)
                self._board.rest(source, LIAR_REST_S, time.monotonic())
                return
            self._wrong += 1
            if self._wrong >= WRONG_FROM_COORDINATOR:
                self._error = BadArchive(f"archive {self._plan.md5} is broken at the coordinator: {wrong}")

    def _troubled_by(self, source: Peer, error: Exception) -> None:
        with self._changed:
            if self._ended:
                return  # we hung up ourselves
            now = time.monotonic()
            if isinstance(error, PeerBusy):
                self._board.rest(source, FULL_REST_S * self._board.chance.uniform(0.5, 1.0), now)
                return
            self._last_trouble = str(error)
            log.info("archive %s: %s", self._plan.md5, error)
            if source.is_coordinator:
                self._board.rest(source, COORDINATOR_REST_S, now)
            elif isinstance(error, PeerLacksPiece):
                self._board.heard(source, 0, now)  # it threw the archive out, or began anew
            else:
                self._board.rest(source, UNFIT_REST_S, now)
                self._swarm.avoid(source.url, UNFIT_REST_S)


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
