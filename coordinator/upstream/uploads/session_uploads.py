"""What goes back to the server: finished frames and error reports, persisted before they are sent.

A frame waits in the spool and its lease is DELIVERED (:mod:`coordinator.upstream.uploads.frame_uploads`); an error
report waits as a file (:mod:`coordinator.upstream.uploads.report_uploads`). Both survive a restart. Each session begins
with things in the order in which they were finished, frames first, several at a time, those that have failed before
after those that have not.

What the server answers and does not settle makes that frame or report wait, longer each time. Silence makes the whole
session wait, unless others got through meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Generator

from coordinator.leases.lease import Lease
from coordinator.upstream.errors import BadAnswer, ServerSilent

from .frame_uploads import FrameUploads
from .report_rate import ReportRate
from .report_uploads import ReportUploads
from .retries import Failures, RetryTable
from .upload_services import UploadServices, UploadSession

log = logging.getLogger(__name__)


class SessionUploads:
    """Sends one session's frames and reports; any number of threads may flush at the same time."""

    def __init__(
        self,
        session: UploadSession,
        services: UploadServices,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._counters, self._clock = session, services.counters, clock
        self._retries = RetryTable(services.backoff, clock)
        self._frames = FrameUploads(session, services, self._retries)
        self._reports = ReportUploads(session, services.reports, self._retries, ReportRate(clock=clock))
        #: After silence: the session's waits, and the clock's seconds before which nothing is sent.
        self._backoff, self._not_before = services.backoff(), -math.inf
        self._lock = threading.Lock()
        #: Leases whose frame or report a thread is sending now.
        self._under_way: set[str] = set()

    def pending(self) -> int:
        """How many frames and reports of this session wait for the server."""
        return self._counters.of(self._session.key).delivered + len(self._reports.waiting())

    def held(self) -> int:
        """How many frames the server takes for this session's: not yet uploaded, or not yet told as failed."""
        return self._counters.of(self._session.key).active + len(self._reports.waiting())

    def idle(self) -> bool:
        """Whether no frame and no report of the session is left to send."""
        return self.pending() == 0

    def flush_once(self) -> bool:
        """Sends the next thing that is due. True: the server is there, and there may be more to send."""
        with self._next() as item:
            if item is None or not self._session.ensure_signed_in():
                return False
            try:
                why = self._frames.send(item) if isinstance(item, Lease) else self._reports.send(item)
            except BadAnswer as error:
                why = str(error)
            except ServerSilent as error:
                return self._met_silence(item, error)
            if why:
                self._unsettled(item, why)
            with self._lock:
                self._backoff.reset()
            return True

    def _met_silence(self, item: Lease | str, error: ServerSilent) -> bool:
        failures = self._retries.failed(_id_of(item), answered=False)
        if failures.alone:
            self._failed(item, failures, str(error))
            return True
        log.warning("uploads of %s wait until the server answers again; nothing is lost: %s", self._session.key, error)
        with self._lock:
            if self._clock() >= self._not_before:  # else another thread met the same silence
                self._not_before = self._clock() + self._backoff.next()
        return False

    def _unsettled(self, item: Lease | str, why: str) -> None:
        """The server answered, and the item is not settled: it alone waits."""
        self._failed(item, self._retries.failed(_id_of(item), answered=True), why)
        self._retries.keep_only(self._frames.waiting_ids().union(self._reports.waiting()))

    def _failed(self, item: Lease | str, failures: Failures, why: str) -> None:
        if isinstance(item, Lease):
            self._frames.failed(item, failures, why)
        else:
            self._reports.failed(item, failures, why)

    @contextlib.contextmanager
    def _next(self) -> Generator[Lease | str | None]:
        """The next frame, or the lease id of the next report, for this thread alone."""
        with self._lock:
            item = self._choose() if self._clock() >= self._not_before else None
            if item is not None:
                self._under_way.add(_id_of(item))
        try:
            yield item
        finally:
            with self._lock:
                self._under_way.discard(_id_of(item) if item is not None else "")

    def _choose(self) -> Lease | str | None:
        return self._first(self._retries.is_fresh) or self._first(self._retries.is_due)

    def _first(self, suits: Callable[[str], bool]) -> Lease | str | None:
        def may_go(lease_id: str) -> bool:
            return lease_id not in self._under_way and suits(lease_id)

        return self._frames.next(may_go) or self._reports.next(may_go)


def _id_of(item: Lease | str) -> str:
    return item.id if isinstance(item, Lease) else item
