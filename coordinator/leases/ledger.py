"""The ledger: every lease and what became of each attempt, on disk before anyone acts on it.

A transition is one transaction: it is on disk (WAL, ``synchronous=FULL``) before memory knows it, and memory is what
readers see. Active leases live in memory too, by state, so that reading them costs nothing; who counts things about
them watches the ledger (:meth:`Ledger.watch`) and counts along, instead of looking through them again and again.

Threads that write at the same time share one transaction, and so one wait for the disk: each queues its steps, and
whoever gets the lock first writes all that wait (:meth:`Ledger._write_waiting`). A step whose claim is wrong fails on
its own; the others of its transaction are untouched.

The tables are described in :mod:`coordinator.leases.ledger_schema`, the file and its errors in
:mod:`coordinator.leases.ledger_database`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sheepfold.protocol.messages import JobOffer

from . import ledger_schema as schema
from .lease import ACTIVE, Delivery, Lease, LeaseError, LeaseEvent, LeaseState, UnknownLease, advance
from .ledger_batch import Attempt, Batch, Grant, Transition
from .ledger_database import (
    LedgerError,
    LedgerInUse,
    LedgerTooNew,
    LedgerUnwritable,
    backup_ledger,
    engine_of,
    file_of,
    lock_exclusively,
    sealer_beside,
    sqlite_url,
    typed_errors,
)
from .sealing import Sealer

__all__ = [
    "Attempt",
    "Grant",
    "Ledger",
    "LedgerError",
    "LedgerInUse",
    "LedgerTooNew",
    "LedgerUnwritable",
    "Transition",
    "backup_ledger",
    "sqlite_url",
]


#: Ended leases kept in memory; older ones are read from the file.
REMEMBERED = 1000

#: Told of a step: the lease before it (``None``: it has just been granted) and after it.
Watcher = Callable[[Lease | None, Lease], None]


class _Waiting:
    """A write that waits for the next transaction."""

    def __init__(self, work: Grant | Transition) -> None:
        self.work = work
        self.outcome: Lease | Exception | None = None


class Ledger:
    """The durable leases. Thread-safe; one per coordinator.

    Raises :class:`LedgerInUse`, :class:`LedgerTooNew` or :class:`LedgerUnwritable` when it cannot be opened.
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives Unix seconds; whoever measures how long a lease stands still passes one that never jumps."""
        self._clock = clock
        self._path = file_of(url)
        self._claim = lock_exclusively(self._path) if self._path else None
        self._engine = engine_of(url)
        self._sealer = Sealer()
        self._writer: sa.Connection | None = None
        self._waiting: deque[_Waiting] = deque()
        self._write_lock = threading.Lock()
        # Held for the blink of publishing and reading memory, never while the disk is written.
        self._memory_lock = threading.Lock()
        #: Every state of an active lease → the leases in it by id, in the order in which they came there.
        self._active: dict[LeaseState, dict[str, Lease]] = {state: {} for state in LeaseState if state in ACTIVE}
        #: Leases that ended lately, the last one last: nodes and beats that come a little late ask for these.
        self._ended: OrderedDict[str, Lease] = OrderedDict()
        self._watchers: list[Watcher] = []
        self._counts: Counter[LeaseState] = Counter()
        self._known_scripts: set[str] = set()
        self._kept: dict[str, str] = {}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        with typed_errors():
            if self._path:
                self._sealer = sealer_beside(self._path)
            self._writer = self._engine.connect()
        self._write(schema.prepare_schema)
        with self._reading() as connection:
            active = schema.SELECT_LEASES.where(schema.leases.c.ended_at.is_(None)).order_by(schema.leases.c.changed_at)
            for row in connection.execute(active):
                lease = self._lease_of(row)
                self._active[lease.state][lease.id] = lease
            tally = sa.select(schema.leases.c.state, sa.func.count()).group_by(schema.leases.c.state)
            self._counts.update({LeaseState(state): count for state, count in connection.execute(tally)})
            self._kept.update({row.key: row.value for row in connection.execute(sa.select(schema.kept))})

    # Writing

    def grant(self, offer: JobOffer, session_key: str) -> Lease:
        """A new lease for a frame the server gave us; raises :class:`LedgerError`."""
        return self._settle_one(Grant(offer=offer, session_key=session_key))

    def apply(
        self,
        lease_id: str,
        event: LeaseEvent,
        *,
        attempt: int | None = None,
        node_id: str | None = None,
        delivery: Delivery | None = None,
        reason: str = "",
        answer: int | None = None,
    ) -> Lease:
        """The lease after ``event``, on disk.

        Raises :class:`~coordinator.leases.lease.LeaseError` (the claim is wrong) or :class:`LedgerError` (the disk is);
        nothing has changed then.
        """
        return self._settle_one(
            Transition(
                lease_id=lease_id,
                event=event,
                attempt=attempt,
                node_id=node_id,
                delivery=delivery,
                reason=reason,
                answer=answer,
            )
        )

    def apply_many(self, works: Sequence[Grant | Transition]) -> list[Lease | LeaseError]:
        """Each one's lease, or why it changed nothing; one transaction for all that hold.

        Raises :class:`LedgerError` when nothing could be written.
        """
        outcomes: list[Lease | LeaseError] = []
        for outcome in self._settle(works):
            if not isinstance(outcome, (Lease, LeaseError)):
                raise outcome
            outcomes.append(outcome)
        return outcomes

    def _settle_one(self, work: Grant | Transition) -> Lease:
        (outcome,) = self._settle([work])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _settle(self, works: Sequence[Grant | Transition]) -> list[Lease | Exception]:
        mine = [_Waiting(work) for work in works]
        # One call, so that a thread that writes meanwhile takes all of mine or none of it.
        self._waiting.extend(mine)
        with self._write_lock:
            if any(one.outcome is None for one in mine):
                self._write_waiting()
        return [one.outcome for one in mine if one.outcome is not None]

    def _write_waiting(self) -> None:
        todo = [self._waiting.popleft() for _ in range(len(self._waiting))]
        batch, now = Batch(self._sealer), self._clock()
        try:
            for one in todo:
                one.outcome = self._plan(one.work, batch, now)
            if batch.moves:
                self._write(lambda connection: batch.write(connection, self._known_scripts))
                self._publish(batch)
        except Exception as error:
            for one in todo:
                one.outcome = one.outcome if isinstance(one.outcome, LeaseError) else error

    def _plan(self, work: Grant | Transition, batch: Batch, now: float) -> Lease | LeaseError:
        if isinstance(work, Grant):
            key = work.session_key
            lease = Lease(id=uuid.uuid4().hex, session_key=key, offer=work.offer, granted_at=now, changed_at=now)
            batch.grant(lease)
            return lease
        try:
            before = batch.changed.get(work.lease_id) or self.get(work.lease_id)
            after = advance(
                before,
                work.event,
                attempt=work.attempt,
                node_id=work.node_id,
                delivery=work.delivery,
                reason=work.reason,
            )
        except LeaseError as error:
            return error
        after = dataclasses.replace(after, changed_at=now)
        batch.step(before, after, work)
        return after

    def _write(self, write: Callable[[sa.Connection], object]) -> None:
        if self._writer is None:
            raise LedgerError("the ledger is closed")
        with typed_errors(), self._writer.begin():
            write(self._writer)

    def _publish(self, batch: Batch) -> None:
        with self._memory_lock:
            self._known_scripts.update(batch.scripts)
            for before, after in batch.moves:
                self._counts[after.state] += 1
                if before is not None:
                    self._counts[before.state] -= 1
                    self._active[before.state].pop(before.id, None)
                if after.state in ACTIVE:
                    self._active[after.state][after.id] = after
                else:
                    self._ended[after.id] = after
            while len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
        for watcher in self._watchers:
            for before, after in batch.moves:
                watcher(before, after)

    def watch(self, watcher: Watcher) -> None:
        """Tells ``watcher`` every lease that is active now, as if it had just come, and every step from now on.

        It is called in the thread that writes, in the order of the steps, once they are on disk; it must be quick, must
        not write to the ledger, and must not raise.
        """
        with self._write_lock:
            for lease in self.leases():
                watcher(None, lease)
            self._watchers.append(watcher)

    # Reading

    def get(self, lease_id: str) -> Lease:
        """The lease; raises :class:`~coordinator.leases.lease.UnknownLease`."""
        with self._memory_lock:
            for of_state in self._active.values():
                if lease_id in of_state:
                    return of_state[lease_id]
            if lease_id in self._ended:
                return self._ended[lease_id]
        with self._reading() as connection:
            row = connection.execute(schema.SELECT_LEASES.where(schema.leases.c.id == lease_id)).first()
        if row is None:
            raise UnknownLease(f"there is no lease {lease_id[:40]!r}")
        return self._lease_of(row)

    def leases(self, *states: LeaseState) -> list[Lease]:
        """The leases in these states, oldest first; without states, all active ones. Active ones come from memory."""
        wanted = frozenset(states) or ACTIVE
        with self._memory_lock:
            found = [lease for state in self._active.keys() & wanted for lease in self._active[state].values()]
        if wanted - ACTIVE:
            table = schema.leases.c
            chosen = schema.SELECT_LEASES.where(table.ended_at.is_not(None), table.state.in_(sorted(wanted)))
            with self._reading() as connection:
                found += map(self._lease_of, connection.execute(chosen))
        return sorted(found, key=lambda lease: lease.granted_at)

    def pictures_of_job(self, lease: Lease) -> list[tuple[str, Delivery]]:
        """Every frame of the lease's job whose picture was delivered or accepted; reads through the whole file."""
        table = schema.leases.c
        chosen = sa.select(table.frame, table.delivery).where(
            table.job_id == lease.offer.job_id,
            table.offer["revision"].as_string() == lease.offer.revision,
            table.state.in_([LeaseState.DELIVERED, LeaseState.ACCEPTED]),
        )
        with self._reading() as connection:
            return [(row.frame, Delivery(**row.delivery)) for row in connection.execute(chosen) if row.delivery]

    def first(self, state: LeaseState, suits: Callable[[Lease], bool]) -> Lease | None:
        """Of the leases in an active state, the one that came there first among those that suit."""
        with self._memory_lock:
            return next(filter(suits, self._active[state].values()), None)

    def _lease_of(self, row: sa.Row[Any]) -> Lease:
        return schema.lease_of(row, self._sealer)

    def counts(self) -> dict[LeaseState, int]:
        """How many leases stand in each state, ended ones included; from memory."""
        with self._memory_lock:
            return {state: self._counts[state] for state in LeaseState}

    def history(self, limit: int = 100) -> list[Lease]:
        """The leases that ended last, latest first."""
        ended_at = schema.leases.c.ended_at
        latest = schema.SELECT_LEASES.where(ended_at.is_not(None)).order_by(ended_at.desc()).limit(limit)
        with self._reading() as connection:
            return [self._lease_of(row) for row in connection.execute(latest)]

    def attempts(self, lease_id: str) -> list[Attempt]:
        """Every order of a lease, first one first."""
        table = schema.attempts
        chosen = sa.select(table).where(table.c.lease_id == lease_id).order_by(table.c.attempt)
        with self._reading() as connection:
            return [Attempt(**row) for row in connection.execute(chosen).mappings()]

    def answer(self, lease_id: str) -> int | None:
        """The status with which the server ended the lease, if it did."""
        chosen = sa.select(schema.leases.c.answer).where(schema.leases.c.id == lease_id)
        with self._reading() as connection:
            return connection.execute(chosen).scalar()

    @contextlib.contextmanager
    def _reading(self) -> Generator[sa.Connection]:
        with typed_errors(), self._engine.connect().execution_options(reading=True) as connection:
            yield connection

    # Small texts

    def keep(self, key: str, value: str) -> None:
        """Remember ``value`` across restarts; the same value again costs nothing."""
        with self._write_lock:
            if self._kept.get(key) != value:
                self._write(lambda connection: schema.keep_text(connection, key, value))
                self._kept[key] = value

    def kept(self, key: str) -> str | None:
        """What was last kept under ``key``."""
        return self._kept.get(key)

    def keep_secret(self, key: str, value: str) -> None:
        """Remember a text that nobody may read in the file."""
        if self.kept_secret(key) != value:
            self.keep(key, self._sealer.seal(value))

    def kept_secret(self, key: str) -> str | None:
        """What was last given to :meth:`keep_secret`; ``None`` also where it was sealed with another key."""
        sealed = self.kept(key)
        return self._sealer.open(sealed) if sealed else None

    def drop(self, key: str) -> None:
        """Forget ``key``."""
        with self._write_lock:
            if key in self._kept:
                self._write(lambda connection: connection.execute(sa.delete(schema.kept).filter_by(key=key)))
                del self._kept[key]

    # The file

    def backup(self, target: Path) -> None:
        """Copy the ledger as it is now; transitions go on meanwhile. See :func:`backup_ledger`."""
        if self._path is None:
            raise LedgerError("this database is backed up with its own tools")
        backup_ledger(self._path, target)

    def close(self) -> None:
        """Close the file and let another coordinator have it; closing twice is fine."""
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._engine.dispose()
            if self._claim is not None:
                os.close(self._claim)
                self._claim = None
