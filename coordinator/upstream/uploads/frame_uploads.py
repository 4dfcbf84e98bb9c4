"""What goes back to the server: finished frames and error reports, persisted before they are sent.

A frame waits in the spool and its lease is DELIVERED; an error report waits as a file
(:mod:`coordinator.upstream.uploads.error_reports`). Both survive a restart. Each session begins with things in the
order in which they were finished, several at a time, those that have failed before after those that have not.

============================================  =======================================================================
the server                                    what becomes of the frame
============================================  =======================================================================
0                                             accepted
300, 301, 302, 306, 308, HTTP 413             refused for good; 301 and 302 are told to whoever watches the PCs
304, 202                                      sent again at once with a new session, once
303, another 4xx, a page that is no answer    it alone waits, longer each time
a status nobody knows                         the same; the fifth time it is refused
says nothing (no connection, 502 to 504)      the whole session waits, unless others got through meanwhile
============================================  =======================================================================

A frame that waits holds a place at the server, and a synchronous one stops its session from asking. So none waits for
ever: it is given up with an error report once it has failed several times while others got through, or many times
where none did (:mod:`coordinator.upstream.reactions` has the numbers). Silence alone gives up nothing.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Sequence

from coordinator.leases.errors import LeaseError
from coordinator.leases.lease import Delivery, Lease, LeaseEvent, LeaseState
from coordinator.upstream.errors import BadAnswer, ServerSilent
from coordinator.upstream.reactions import (
    BROKEN,
    DEAD,
    DEFINITE_AFTER,
    GIVEN_UP_AFTER,
    GIVEN_UP_ALONE,
    GIVEN_UP_SYNCHRONOUS,
    REFUSALS,
)
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.protocol.messages import FrameUpload
from sheepfold.protocol.status import ErrorStatus, ValidationStatus, explain

from .error_reports import send_report
from .report_rate import ReportRate
from .retries import Failures, RetryTable
from .upload_services import UploadServices, UploadSession

log = logging.getLogger(__name__)


class Uploads:
    """Sends one session's frames and reports; any number of threads may flush at the same time."""

    def __init__(
        self,
        session: UploadSession,
        services: UploadServices,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._services, self._clock = session, services, clock
        self._ledger, self._reports = services.ledger, services.reports
        self._retries, self._rate = RetryTable(services.backoff, clock), ReportRate(clock=clock)
        #: After silence: the session's waits, and the clock's seconds before which nothing is sent.
        self._backoff, self._not_before = services.backoff(), -math.inf
        self._lock = threading.Lock()
        #: Leases whose frame or report a thread is sending now.
        self._under_way: set[str] = set()

    def pending(self) -> int:
        """How many frames and reports of this session wait for the server."""
        return self._services.counters.of(self._session.key).delivered + len(self._reports.waiting(self._session.key))

    def held(self) -> int:
        """How many frames the server takes for this session's: not yet uploaded, or not yet told as failed."""
        return self._services.counters.of(self._session.key).active + len(self._reports.waiting(self._session.key))

    def idle(self) -> bool:
        """Whether no frame and no report of the session is left to send."""
        return self.pending() == 0

    def flush_once(self) -> bool:
        """Sends the next thing that is due. True: the server is there, and there may be more to send."""
        with self._next() as item:
            if item is None or not self._session.ensure_signed_in():
                return False
            try:
                if isinstance(item, Lease):
                    self._send_frame(item)
                else:
                    self._send_report(item)
            except BadAnswer as error:
                self._unsettled(item, str(error))
            except ServerSilent as error:
                return self._met_silence(item, error)
            with self._lock:
                self._backoff.reset()
            return True

    def _met_silence(self, item: Lease | str, error: ServerSilent) -> bool:
        failures = self._retries.failed(_id_of(item), answered=False)
        if failures.alone:
            self._consider_giving_up(item, failures, str(error))
            return True
        log.warning("not uploaded yet: %s", error)
        with self._lock:
            if self._clock() >= self._not_before:  # else another thread met the same silence
                self._not_before = self._clock() + self._backoff.next()
        return False

    def _unsettled(self, item: Lease | str, why: str) -> None:
        """The server answered, and the item is not settled: it alone waits."""
        self._consider_giving_up(item, self._retries.failed(_id_of(item), answered=True), why)
        self._retries.keep_only(self._waiting_ids())

    def _consider_giving_up(self, item: Lease | str, failures: Failures, why: str) -> None:
        if isinstance(item, Lease):
            limit = GIVEN_UP_SYNCHRONOUS if item.offer.synchronous_upload else GIVEN_UP_AFTER
            if failures.alone >= GIVEN_UP_ALONE or failures.answers >= limit:
                self._give_up(item, why)
            else:
                log.warning("%s is sent again in %.0f s: %s", item.label, failures.wait_s, why)
        elif failures.answers >= DEFINITE_AFTER or failures.alone >= GIVEN_UP_ALONE:
            log.error("the error report %s is not taken and is kept as %s.untold: %s", item, item, why)
            self._reports.set_aside(item)
            self._settled(item)
        else:
            log.warning("error report %s is sent again in %.0f s: %s", item, failures.wait_s, why)

    def _waiting_ids(self) -> set[str]:
        delivered = self._ledger.leases(LeaseState.DELIVERED)
        mine = {lease.id for lease in delivered if lease.session_key == self._session.key}
        return mine | set(self._reports.waiting(self._session.key))

    # What is next

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
        def may_go(item: str) -> bool:
            return item not in self._under_way and suits(item)

        key = self._session.key
        frame = self._ledger.first(LeaseState.DELIVERED, lambda lease: lease.session_key == key and may_go(lease.id))
        return frame or self._first_report([item for item in self._reports.waiting(key) if may_go(item)])

    def _first_report(self, waiting: Sequence[str]) -> str | None:
        """The lease id of the oldest report that may be sent now: of failures a server is told a few at a time."""
        if waiting and self._reports.is_failure(waiting[0]) and not self._rate.take():
            return next((lease_id for lease_id in waiting if not self._reports.is_failure(lease_id)), None)
        return waiting[0] if waiting else None

    # Frames

    def _send_frame(self, lease: Lease) -> None:
        delivery = lease.delivery
        picture = self._services.spool.path(delivery.picture) if delivery else None
        if delivery is None or picture is None or not picture.is_file():
            self._render_again(lease, "the picture is gone from the spool")
            return
        upload, url = _upload_of(lease, delivery), lease.offer.validation_url
        try:
            status = self._status_of(lambda: self._session.client.validate(upload, picture, url).status)
        except OSError as error:
            self._render_again(lease, f"the picture in the spool cannot be read: {error.strerror}")
            self._services.spool.discard(delivery.picture)
            return
        self._settle(lease, delivery.picture, status)

    def _status_of(self, send: Callable[[], int]) -> int:
        """The answer; where the session was dead, the answer to a new one, which is tried at once and once."""
        status = send()
        if status in DEAD:
            self._session.session_died()
            if self._session.ensure_signed_in():
                status = send()
                if status in DEAD:
                    self._session.session_died()
        return status

    def _render_again(self, lease: Lease, reason: str) -> None:
        log.error("%s is rendered again: %s", lease.label, reason)
        self._apply(lease, LeaseEvent.RETRY, reason=reason)
        self._retries.forget(lease.id)

    def _settle(self, lease: Lease, picture: str, status: int) -> None:
        if status == ValidationStatus.OK:
            self._apply(lease, LeaseEvent.ACCEPT, answer=int(status))
            log.info("%s accepted", lease.label)
        elif status in REFUSALS or (status != ValidationStatus.UPLOAD_FAILED and self._is_definite(lease)):
            self._apply(lease, LeaseEvent.REFUSE, reason=explain(status), answer=int(status))
            log.error("%s refused, rendered by node %s: %s", lease.label, lease.node_id, explain(status))
            if status in BROKEN:
                self._services.on_broken(lease, explain(status))
        else:
            self._unsettled(lease, explain(status))
            return
        self._services.spool.discard(picture)
        self._settled(lease.id)

    def _give_up(self, lease: Lease, why: str) -> None:
        reason = f"the server did not take the picture: {why}"
        self._services.give_up(lease, FailureReport(kind=FailureKind.NOT_UPLOADED, reason=reason))
        if lease.delivery is not None:
            self._services.spool.discard(lease.delivery.picture)
        self._retries.forget(lease.id)
        self._session.job_may_be_there()

    def _settled(self, item: str) -> None:
        self._retries.settled(item)
        self._session.job_may_be_there()

    def _is_definite(self, lease: Lease) -> bool:
        return self._retries.odd_answer(lease.id) >= DEFINITE_AFTER

    def _apply(self, lease: Lease, event: LeaseEvent, *, reason: str = "", answer: int | None = None) -> None:
        try:
            self._ledger.apply(lease.id, event, attempt=lease.attempt, reason=reason, answer=answer)
        except LeaseError as error:  # cancelled by the operator while its upload was under way
            log.info("%s stays as it is: %s", lease.label, error)

    # Reports

    def _send_report(self, lease_id: str) -> None:
        pending = self._reports.read(lease_id)
        if pending is None:
            return
        status = self._status_of(lambda: send_report(self._session.client, pending))
        if status != ErrorStatus.OK:
            self._unsettled(lease_id, explain(status))
            return
        self._reports.done(lease_id)
        self._settled(lease_id)


def _id_of(item: Lease | str) -> str:
    return item.id if isinstance(item, Lease) else item


def _upload_of(lease: Lease, delivery: Delivery) -> FrameUpload:
    return FrameUpload(
        job=lease.offer.job_id,
        frame=lease.offer.frame,
        render_time_s=math.ceil(delivery.render_s),
        revision=lease.offer.revision,
        extras=lease.offer.extras,
        memory_used_kb=delivery.memory_kb,
        cores=delivery.cores,
        is_confirmed=delivery.is_confirmed,
    )
