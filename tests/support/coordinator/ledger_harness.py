"""A ledger on a real disk, and leases in the states that its tests begin with."""

from __future__ import annotations

from pathlib import Path

from coordinator.leases.lease import (
    Lease,
    LeaseEvent,
    LeaseState,
)
from coordinator.leases.ledger import Ledger
from tests.support.coordinator.builders import open_ledger
from tests.support.coordinator.ledger_writer import DELIVERY, offer

S, E = LeaseState, LeaseEvent
SESSION = "farm:linux/64bit"


class TickingClock:
    """Ticks one second each time it is read."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def reopened(ledger: Ledger, path: Path) -> Ledger:
    ledger.database.close()
    return open_ledger(path, TickingClock())


def delivered(ledger: Ledger, frame: int = 1) -> Lease:
    lease = ledger.grant(offer(frame), SESSION)
    ledger.apply(lease.id, E.ORDER, node_id="n1")
    ledger.apply(lease.id, E.START, attempt=1)
    return ledger.apply(lease.id, E.DELIVER, attempt=1, delivery=DELIVERY)


def held_back(ledger: Ledger) -> Lease:
    """A lease whose picture waits for a second opinion."""
    lease = ledger.grant(offer(2), SESSION)
    ledger.apply(lease.id, E.ORDER, node_id="n1")
    ledger.apply(lease.id, E.START, attempt=1)
    return ledger.apply(lease.id, E.HOLD_BACK, attempt=1, delivery=DELIVERY, reason="black")
