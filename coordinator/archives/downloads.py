"""Archives on their way from the server: each once, in the background, with its own waits after silence.

A lease that wants an archive asks again and again; the download runs beside it. How a download ended concerns the
leases that waited for it and no others: a 404 of last week says nothing about a frame that is granted today.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO

from coordinator.upstream.errors import ArchiveGone, DownloadCancelled, ServerSilent
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_state import SessionState
from sheepfold.backoff import Backoff
from sheepfold.contract.orders import ArchiveRef
from sheepfold.errors import DiskFull
from sheepfold.protocol.messages import ArchiveRequest

from .store import ArchiveStore

log = logging.getLogger(__name__)

#: Downloads side by side; more would only share the same line.
FETCHES_AT_ONCE = 4
#: Parts of one scene side by side: the rest is for other jobs' archives.
PARTS_AT_ONCE = 2
#: No archive of this protocol is larger (bytes).
MAX_ARCHIVE = 64 * 1024**3


@dataclass
class _Fetch:
    """One download and the leases that wait for it."""

    future: Future[ArchiveRef]
    leases: set[str] = field(default_factory=set)


class Downloads:
    """Used by the placing thread alone; the downloads have threads of their own."""

    def __init__(self, store: ArchiveStore, backoff: Callable[[], Backoff], clock: Callable[[], float]) -> None:
        self._store, self._make_backoff, self._clock = store, backoff, clock
        self._pool = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="fetch")
        self._running: dict[str, _Fetch] = {}
        #: MD5 → its waits, and the clock's time before which it is not tried again.
        self._waits: dict[str, tuple[Backoff, float]] = {}
        self._stopping = threading.Event()

    def ready(
        self, md5: str, request: ArchiveRequest, session: FarmSession, lease_id: str, then: Callable[[], None]
    ) -> ArchiveRef | None:
        """The archive, or ``None`` while it is on its way (``then`` is called when that ends).

        Raises what ended the download for good: :class:`~coordinator.upstream.errors.ArchiveGone` or
        :class:`~coordinator.archives.errors.ArchiveUnavailable`.
        """
        path = self._store.path_of(md5)
        if path is not None:
            self._waits.pop(md5, None)
            self._running.pop(md5, None)
            return ArchiveRef(md5=md5, size=path.stat().st_size)
        fetch = self._running.get(md5)
        if fetch is not None and fetch.future.done() and lease_id in fetch.leases:
            self._ended(md5, fetch, lease_id)
        elif fetch is not None and not fetch.future.done():
            fetch.leases.add(lease_id)
        elif self._clock() >= self._waits.get(md5, (None, 0.0))[1]:
            future = self._pool.submit(self._fetch, md5, request, session)
            self._running[md5] = _Fetch(future, {lease_id})
            future.add_done_callback(lambda _: then())
        return None

    def all_ready(
        self,
        wanted: Sequence[tuple[str, ArchiveRequest]],
        session: FarmSession,
        lease_id: str,
        then: Callable[[], None],
    ) -> tuple[ArchiveRef, ...] | None:
        """A scene's archives in order, or ``None`` while some are on their way; raises as :meth:`ready` does."""
        found: list[ArchiveRef] = []
        awaited: set[str] = set()
        for md5, request in wanted:
            if len(awaited) == PARTS_AT_ONCE:
                break
            ref = self.ready(md5, request, session, lease_id, then)
            if ref is None:
                awaited.add(md5)
            else:
                found.append(ref)
        return None if awaited else tuple(found)

    def forget_others(self, wanted: Collection[str]) -> None:
        """Drops what is known of archives that no live lease wants."""
        for md5 in [md5 for md5, fetch in self._running.items() if fetch.future.done() and md5 not in wanted]:
            del self._running[md5]
        for md5 in [md5 for md5 in self._waits if md5 not in wanted]:
            del self._waits[md5]

    def close(self) -> None:
        """Ends downloads that are under way."""
        self._stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, md5: str, request: ArchiveRequest, session: FarmSession) -> ArchiveRef:
        def download(target: BinaryIO) -> None:
            if not session.ensure_signed_in():
                raise ServerSilent("archive download", "", "the session is not signed in")
            session.client.download(request, target, limit_bytes=MAX_ARCHIVE, cancelled=self._stopping.is_set)

        def into(target: BinaryIO) -> None:
            try:
                download(target)
            except ArchiveGone:
                # A dead session gets no other answer either; a new one tells the two apart.
                if session.state is not SessionState.SIGNED_IN:
                    raise
                session.session_died()
                target.seek(0)
                download(target)

        return self._store.ensure(md5, into)

    def _ended(self, md5: str, fetch: _Fetch, lease_id: str) -> None:
        fetch.leases.discard(lease_id)
        try:
            fetch.future.result()
        except (ServerSilent, DownloadCancelled, DiskFull, OSError) as error:
            del self._running[md5]
            backoff = self._waits.get(md5, (self._make_backoff(), 0.0))[0]
            wait_s = backoff.next()
            self._waits[md5] = (backoff, self._clock() + wait_s)
            log.warning("archive %s could not be downloaded, next try in %.0f s: %s", md5, wait_s, error)
        except Exception:
            if not fetch.leases:
                del self._running[md5]
            raise
        else:
            del self._running[md5]
