"""Sends a session's finished frames, in the order in which they were delivered.

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

import logging
import math
from collections.abc import Callable

from coordinator.leases.errors import LeaseError
from coordinator.leases.lease import Delivery, Lease, LeaseEvent, LeaseState
from coordinator.upstream.reactions import (
    BROKEN,
    DEFINITE_AFTER,
    GIVEN_UP_AFTER,
    GIVEN_UP_ALONE,
    GIVEN_UP_SYNCHRONOUS,
    REFUSALS,
)
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.protocol.messages import FrameUpload
from sheepfold.protocol.status import ValidationStatus, explain

from .retries import Failures, RetryTable
from .upload_services import UploadServices, UploadSession, answer_of

log = logging.getLogger(__name__)


class FrameUploads:
    """The DELIVERED leases of one session. Thread-safe: each is sent by one thread."""

    def __init__(self, session: UploadSession, services: UploadServices, retries: RetryTable) -> None:
        self._session, self._services, self._retries = session, services, retries
        self._ledger, self._spool = services.ledger, services.spool

    def waiting_ids(self) -> set[str]:
        """Leases of this session whose picture is here and not at the server yet."""
        key = self._session.key
        return {lease.id for lease in self._ledger.leases(LeaseState.DELIVERED) if lease.session_key == key}

    def next(self, may_go: Callable[[str], bool]) -> Lease | None:
        """The lease that was delivered first among those whose id may go."""
        key = self._session.key
        return self._ledger.first(LeaseState.DELIVERED, lambda lease: lease.session_key == key and may_go(lease.id))

    def send(self, lease: Lease) -> str:
        """Uploads the picture and settles the lease; why it is not settled, empty where it is.

        Raises what the exchange raises.
        """
        delivery = lease.delivery
        picture = self._spool.path(delivery.picture) if delivery else None
        if delivery is None or picture is None or not picture.is_file():
            self._render_again(lease, "the picture is gone from the spool")
            return ""
        upload, url = _upload_of(lease, delivery), lease.offer.validation_url
        try:
            status = answer_of(self._session, lambda: self._session.client.validate(upload, picture, url).status)
        except OSError as error:
            self._render_again(lease, f"the picture in the spool cannot be read: {error.strerror}")
            self._spool.discard(delivery.picture)
            return ""
        return self._settle(lease, delivery.picture, status)

    def failed(self, lease: Lease, failures: Failures, why: str) -> None:
        """It was tried and not settled, once more: given up for good, or sent again."""
        limit = GIVEN_UP_SYNCHRONOUS if lease.offer.synchronous_upload else GIVEN_UP_AFTER
        if failures.alone >= GIVEN_UP_ALONE or failures.answers >= limit:
            self._give_up(lease, why)
        else:
            log.warning("%s is sent again in %.0f s: %s", lease.label, failures.wait_s, why)

    def _render_again(self, lease: Lease, reason: str) -> None:
        log.error("%s is rendered again: %s", lease.label, reason)
        self._apply(lease, LeaseEvent.RETRY, reason=reason)
        self._retries.forget(lease.id)

    def _settle(self, lease: Lease, picture: str, status: int) -> str:
        """Why the status settles nothing; empty where it does."""
        if status == ValidationStatus.OK:
            self._apply(lease, LeaseEvent.ACCEPT, answer=int(status))
            log.info("%s accepted", lease.label)
        elif status in REFUSALS or (status != ValidationStatus.UPLOAD_FAILED and self._is_definite(lease)):
            self._apply(lease, LeaseEvent.REFUSE, reason=explain(status), answer=int(status))
            log.error("%s refused, rendered by node %s: %s", lease.label, lease.node_id, explain(status))
            if status in BROKEN:
                self._services.on_broken(lease, explain(status))
        else:
            return explain(status)
        self._spool.discard(picture)
        self._retries.settled(lease.id)
        self._session.job_may_be_there()
        return ""

    def _give_up(self, lease: Lease, why: str) -> None:
        reason = f"the server did not take the picture: {why}"
        self._services.give_up(lease, FailureReport(kind=FailureKind.NOT_UPLOADED, reason=reason))
        if lease.delivery is not None:
            self._spool.discard(lease.delivery.picture)
        self._retries.forget(lease.id)
        self._session.job_may_be_there()

    def _is_definite(self, lease: Lease) -> bool:
        return self._retries.odd_answer(lease.id) >= DEFINITE_AFTER

    def _apply(self, lease: Lease, event: LeaseEvent, *, reason: str = "", answer: int | None = None) -> None:
        try:
            self._ledger.apply(lease.id, event, attempt=lease.attempt, reason=reason, answer=answer)
        except LeaseError as error:  # cancelled by the operator while its upload was under way
            log.info("%s: the server's answer came too late and changes nothing here: %s", lease.label, error)


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
