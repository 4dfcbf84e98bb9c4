"""Pictures that wait in the spool for a second opinion, and those of them that a frame next to them speaks for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from coordinator.leases.errors import LeaseError
from coordinator.leases.lease import ENDED, Lease, LeaseEvent
from coordinator.leases.ledger import Ledger

from .claim_listener import ClaimListener
from .spool import Spool

log = logging.getLogger(__name__)


class FrameBelief(Protocol):
    """What is known of the frames around one (:class:`coordinator.delivery.validation.FrameValidator`)."""

    def vouches_for(self, lease: Lease, /) -> bool:
        """Whether the picture of this lease that is held back may go by now."""
        ...


class HeldBackPictures:
    """Which leases have such a picture, as the ledger knows them. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        belief: FrameBelief,
        events: ClaimListener,
        on_believed: Callable[[str], None],
    ) -> None:
        """``on_believed`` gets the id of each lease whose picture goes after all."""
        self._ledger, self._spool, self._belief, self._events = ledger, spool, belief, events
        self._on_believed = on_believed
        #: Ids of leases; some may have ended.
        self._lease_ids: set[str] = set()

    def load(self) -> None:
        """Takes up what was held back before a restart, once the ledger is loaded."""
        self._lease_ids = {lease.id for lease in self._ledger.leases() if lease.held_back}

    def add(self, lease_id: str) -> None:
        """The ledger holds the picture of this lease back from now on."""
        self._lease_ids.add(lease_id)

    def discard(self, lease: Lease) -> None:
        """The lease no longer needs its picture that was held back, if there is one."""
        if lease.held_back is not None:
            self._spool.discard(lease.held_back.delivery.picture)

    def believe_others(self, of_job: Lease) -> None:
        """Pictures of the job that were held back may follow one that was believed, and each may bring the next."""
        job = (of_job.offer.job_id, of_job.offer.revision)
        waiting = [lease for lease in self._waiting() if (lease.offer.job_id, lease.offer.revision) == job]
        while lease := next(filter(self._belief.vouches_for, waiting), None):
            waiting.remove(lease)
            try:
                after = self._ledger.apply(lease.id, LeaseEvent.BELIEVE)
            except LeaseError as error:  # its second picture came, or it was cancelled
                log.info("%s stays as it is: %s", lease.label, error)
                continue
            self._on_believed(lease.id)
            log.info("%s is believed: a frame next to it looks the same", lease.label)
            self._events.overtaken(lease)
            self._events.delivered(after)

    def _waiting(self) -> list[Lease]:
        found = [self._ledger.get(lease_id) for lease_id in list(self._lease_ids)]
        waiting = [lease for lease in found if lease.held_back is not None and lease.state not in ENDED]
        self._lease_ids.difference_update({lease.id for lease in found} - {lease.id for lease in waiting})
        return waiting
