"""What can be written into the ledger, and the rows of one transaction.

A :class:`Batch` is filled step by step and then runs each statement once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sheepfold.protocol.messages import JobOffer

from . import ledger_schema as schema
from .errors import LedgerUnwritable
from .lease import Delivery, Lease, LeaseEvent
from .sealing import Sealer


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One event of one lease; the fields are those of :func:`coordinator.leases.lease.advance`."""

    lease_id: str
    event: LeaseEvent
    attempt: int | None = None
    node_id: str | None = None
    delivery: Delivery | None = None
    reason: str = ""
    #: Status with which the server answered, for the accounts.
    answer: int | None = None


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The server gave us a frame."""

    offer: JobOffer
    session_key: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What one order of a lease came to."""

    lease_id: str
    attempt: int
    node_id: str | None
    #: Unix seconds, like the two after it.
    ordered_at: float
    started_at: float | None
    ended_at: float | None
    #: ``None`` while under way; ``retry``, ``fail`` or ``hold back`` when another followed, ``believe`` when none was
    #: needed; else the lease's state after it.
    outcome: str | None
    reason: str
    #: Wall seconds.
    render_s: float | None
    #: Peak, kB.
    memory_kb: int | None
    #: Size of the picture.
    bytes: int | None


class Batch:
    """The rows of one transaction, gathered first so that each statement runs once for all of them."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self.changed: dict[str, Lease] = {}
        self.moves: list[tuple[Lease | None, Lease]] = []
        self.scripts: dict[str, str] = {}
        # In the order in which they must run: an attempt may be ordered and started in one transaction.
        self.rows: dict[sa.Executable, list[dict[str, Any]]] = {
            schema.INSERT_LEASE: [],
            schema.INSERT_ATTEMPT: [],
            schema.UPDATE_LEASE: [],
            schema.UPDATE_ATTEMPT: [],
        }

    def grant(self, lease: Lease) -> None:
        row = schema.lease_row(lease, self._sealer)
        self.scripts[row["script"]] = lease.offer.script
        self.rows[schema.INSERT_LEASE].append(row)
        self._note(None, lease)

    def step(self, before: Lease, after: Lease, step: Transition) -> None:
        """Adds a transition that was checked already; both leases are whole, ``after`` is what is written."""
        self.rows[schema.UPDATE_LEASE].append(schema.lease_update(before, after, step.answer))
        if step.event is LeaseEvent.ORDER:
            self.rows[schema.INSERT_ATTEMPT].append(schema.attempt_row(after))
        elif before.node_id:
            self.rows[schema.UPDATE_ATTEMPT].append(schema.attempt_update(before, after, step.event, step.reason))
        self._note(before, after)

    def _note(self, before: Lease | None, after: Lease) -> None:
        self.changed[after.id] = after
        self.moves.append((before, after))

    def write(self, connection: sa.Connection, known_scripts: set[str]) -> None:
        """Run it inside the caller's transaction."""
        for digest in self.scripts.keys() - known_scripts:
            schema.insert_script(connection, digest, self.scripts[digest])
        for statement, rows in self.rows.items():
            written = connection.execute(statement, rows).rowcount if rows else 0
            if statement is schema.UPDATE_LEASE and written != len(rows):
                raise LedgerUnwritable("the ledger on disk is not the one in memory: something else wrote to it")
