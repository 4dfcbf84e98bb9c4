"""What goes wrong with the ledger's file.

::

    LedgerError
    ├── LedgerInUse        another coordinator has it open
    ├── LedgerTooNew       a later sheepfold wrote it
    └── LedgerUnwritable   the disk is full, or the file is gone or damaged
"""

from __future__ import annotations

from pathlib import Path


class LedgerError(Exception):
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
