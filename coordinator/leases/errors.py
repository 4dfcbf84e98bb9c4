"""What goes wrong with leases and with the ledger that keeps them.

::

    LeaseError               what is claimed about a lease does not hold
    ├── UnknownLease         no lease has this id
    ├── StaleAttempt         the claim names another attempt than the current one
    ├── IllegalTransition    the lease's state does not allow the event
    └── NothingHeldBack      no picture of it waits for a second opinion
    LedgerError              the ledger's file
    ├── LedgerInUse          another coordinator has it open
    ├── LedgerTooNew         a later sheepfold wrote it
    └── LedgerUnwritable     the disk is full, or the file is gone or damaged
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from sheepfold.errors import SheepfoldError


class LeaseError(SheepfoldError):
    """A claim about a lease does not hold; the lease is unchanged."""


class UnknownLease(LeaseError):
    """There is no lease with this id."""

    def __init__(self, lease_id: str) -> None:
        self.lease_id = lease_id[:40]
        super().__init__(f"there is no lease {self.lease_id!r}")


class StaleAttempt(LeaseError):
    """The claim names an attempt that is no longer (or not yet) the lease's current one."""

    def __init__(self, claimed: int, current: int) -> None:
        self.claimed, self.current = claimed, current
        super().__init__(f"attempt {claimed} is not the current attempt {current}")


class IllegalTransition(LeaseError):
    """The lease's state does not allow this event."""

    def __init__(self, state: StrEnum, event: StrEnum) -> None:
        self.state, self.event = state, event
        super().__init__(f"a lease that is {state.value} cannot {event.value}")


class NothingHeldBack(LeaseError):
    """The event is about a picture that waits for a second opinion, and there is none."""

    def __init__(self, lease_label: str) -> None:
        self.lease_label = lease_label
        super().__init__(f"no picture of {lease_label} waits for a second opinion")


class LedgerError(SheepfoldError):
    """The ledger cannot do its work; no lease has changed."""


class LedgerInUse(LedgerError):
    """Another coordinator has this ledger open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"another coordinator has the ledger {path} open")


class LedgerTooNew(LedgerError):
    """The ledger was written by a later sheepfold."""

    def __init__(self, found: int, known: int) -> None:
        self.found, self.known = found, known
        super().__init__(f"the ledger has schema {found} and this sheepfold knows {known}: update sheepfold")


class LedgerUnwritable(LedgerError):
    """The database refused: the disk is full, or the file is gone or damaged."""
