"""The archives a lease needs before it is ordered: fetched from the server while the lease waits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from coordinator.archives.downloads import Downloads
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.lease import Lease
from coordinator.runtime.wakeups import Wakeups
from coordinator.upstream.session import FarmSession
from sheepfold.protocol.messages import ArchiveRequest, JobOffer

from .requirements import Archives

#: Looking for downloads that nobody wants costs as much as a few frames.
FORGET_EVERY_S = 60.0


class LeaseArchives:
    """Finds and fetches the archives of leases. Used by the placing thread alone."""

    def __init__(
        self,
        downloads: Downloads,
        sessions: Mapping[str, FarmSession],
        counters: LeaseCounters,
        wakeups: Wakeups,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._downloads, self._sessions, self._counters, self._wakeups = downloads, sessions, counters, wakeups
        self._clock = clock
        #: When downloads that nobody wants any more are forgotten next (the clock's seconds).
        self._forget_at = -math.inf

    def of(self, lease: Lease) -> Archives | None:
        """Both archives; ``None`` while one of them is on its way, or the lease's session is not open yet.

        Raises what ended a download for good: :class:`~coordinator.upstream.errors.ArchiveGone` or
        :class:`~coordinator.archives.errors.ArchiveUnavailable`.
        """
        offer = lease.offer
        session = self._sessions.get(lease.session_key)
        if session is None:
            return None
        wanted_renderer = ArchiveRequest(type="binary", job=offer.job_id)
        asking = (session, lease.id, self._wakeups.placing.set)
        # Both are asked for before either is looked at, so that they travel side by side.
        scene = self._downloads.all_ready(_scene_requests(offer), *asking)
        renderer = self._downloads.ready(offer.renderer.md5, wanted_renderer, *asking)
        return Archives(scene=scene, renderer=renderer) if scene and renderer else None

    def forget_unneeded(self) -> None:
        """Drops, once in :data:`FORGET_EVERY_S`, what is known of downloads that no live lease wants."""
        if self._clock() >= self._forget_at:
            self._forget_at = self._clock() + FORGET_EVERY_S
            self._downloads.forget_others(self._counters.needed_archives())

    def close(self) -> None:
        self._downloads.close()


def _scene_requests(offer: JobOffer) -> list[tuple[str, ArchiveRequest]]:
    """The scene's archives in order, each with what the server is asked for."""
    if offer.chunks:
        return [(chunk.md5, ArchiveRequest(type="chunk", chunk=chunk.id)) for chunk in offer.chunks]
    return [(offer.archive_md5, ArchiveRequest(type="job", job=offer.job_id, revision=offer.revision or None))]
