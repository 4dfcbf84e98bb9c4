"""The ledger: every lease and what became of each attempt, on disk before anyone acts on it.

A transition is one transaction: it is on disk (WAL, ``synchronous=FULL``) before memory knows it, and memory is what
readers see. Active leases live in memory too, by state, so that reading them costs nothing; who counts things about
them watches the ledger (:meth:`Ledger.watch`) and counts along, instead of looking through them again and again.

Threads that write at the same time share one transaction, and so one wait for the disk: each queues its steps, and
whoever gets the lock first writes all that wait (:meth:`Ledger._write_waiting`). A step whose claim is wrong fails on
its own; the others of its transaction are untouched.

The tables are described in :mod:`coordinator.leases.ledger_schema`, the file in
:mod:`coordinator.leases.ledger_database`.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from sheepfold.protocol.messages import JobOffer

from . import ledger_schema as schema
from .errors import LeaseError, UnknownLease
from .lease import ACTIVE, Delivery, Lease, LeaseEvent, LeaseState, advance
from .ledger_batch import Attempt, Batch, Grant, Transition
from .ledger_database import LedgerDatabase

#: Ended leases kept in memory; older ones are read from the file.
REMEMBERED = 1000

#: Told of a step: the lease before it (``None``: it has just been granted) and after it.
Watcher = Callable[[Lease | None, Lease], None]


class _PendingWrite:
    """A write that waits for the next transaction."""

    def __init__(self, work: Grant | Transition) -> None:
        self.work = work
        self.outcome: Lease | Exception | None = None


class Ledger:
    """The durable leases. Thread-safe; one per coordinator. Knows nothing until :meth:`load`."""

    def __init__(self, database: LedgerDatabase, *, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives Unix seconds; whoever measures how long a lease stands still passes one that never jumps."""
        self.database = database
        self._clock = clock
        self._waiting: deque[_PendingWrite] = deque()
        self._write_lock = threading.Lock()
        # Held only while memory is read or changed, never while the disk is written.
        self._memory_lock = threading.Lock()
        #: Every state of an active lease → the leases in it by id, in the order in which they came there.
        self._active: dict[LeaseState, dict[str, Lease]] = {state: {} for state in LeaseState if state in ACTIVE}
        #: Leases that ended lately, the last one last: nodes and beats that come a little late ask for these.
        self._ended: OrderedDict[str, Lease] = OrderedDict()
        self._watchers: list[Watcher] = []
        self._counts: Counter[LeaseState] = Counter()
        self._known_scripts: set[str] = set()

    def load(self) -> Ledger:
        """Reads the active leases and tells the watchers of them; returns itself.

        Called once, when the database is open and before anything else is asked of the ledger. Raises
        :class:`~coordinator.leases.errors.LedgerError`.
        """
        columns = schema.leases.c
        with self._write_lock, self.database.reading() as connection:
            active = schema.SELECT_LEASES.where(columns.ended_at.is_(None)).order_by(columns.changed_at)
            for row in connection.execute(active):
                lease = self._lease_of(row)
                self._active[lease.state][lease.id] = lease
            counts = sa.select(columns.state, sa.func.count()).group_by(columns.state)
            self._counts.update({LeaseState(state): count for state, count in connection.execute(counts)})
            for watcher in self._watchers:
                self._tell_all(watcher)
        return self

    # Writing

    def grant(self, offer: JobOffer, session_key: str) -> Lease:
        """A new lease for a frame the server gave us; raises :class:`LedgerError`."""
        return self._settle_single(Grant(offer=offer, session_key=session_key))

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

        Raises LeaseError (the claim is wrong) or LedgerError (the disk is); nothing has changed then.
        """
        return self._settle_single(
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
        """The lease that each work led to, or why it changed nothing; a single transaction for all that hold.

        Raises :class:`LedgerError` when nothing could be written.
        """
        outcomes: list[Lease | LeaseError] = []
        for outcome in self._settle(works):
            if not isinstance(outcome, (Lease, LeaseError)):
                raise outcome
            outcomes.append(outcome)
        return outcomes

    def _settle_single(self, work: Grant | Transition) -> Lease:
        (outcome,) = self._settle([work])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _settle(self, works: Sequence[Grant | Transition]) -> list[Lease | Exception]:
        mine = [_PendingWrite(work) for work in works]
        # One call, so that a thread that writes meanwhile takes all of mine or none of it.
        self._waiting.extend(mine)
        with self._write_lock:
            if any(write.outcome is None for write in mine):
                self._write_waiting()
        return [write.outcome for write in mine if write.outcome is not None]

    def _write_waiting(self) -> None:
        todo = [self._waiting.popleft() for _ in range(len(self._waiting))]
        batch, now = Batch(self.database.sealer), self._clock()
        try:
            for write in todo:
                write.outcome = self._plan(write.work, batch, now)
            if batch.moves:
                self.database.write(lambda connection: batch.write(connection, self._known_scripts))
                self._publish(batch)
        except Exception as error:
            for write in todo:
                write.outcome = write.outcome if isinstance(write.outcome, LeaseError) else error

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
            self._tell_all(watcher)
            self._watchers.append(watcher)

    def _tell_all(self, watcher: Watcher) -> None:
        for lease in self.leases():
            watcher(None, lease)

    def check_writable(self) -> None:
        """Writes something that nobody reads; raises :class:`LedgerError` while the disk takes nothing."""
        self.database.write(lambda connection: schema.put_text(connection, "asked", f"{self._clock():.0f}"))

    # Reading

    def get(self, lease_id: str) -> Lease:
        """From memory where it can; raises :class:`~coordinator.leases.errors.UnknownLease`."""
        with self._memory_lock:
            for of_state in self._active.values():
                if lease_id in of_state:
                    return of_state[lease_id]
            if lease_id in self._ended:
                return self._ended[lease_id]
        with self.database.reading() as connection:
            row = connection.execute(schema.SELECT_LEASES.where(schema.leases.c.id == lease_id)).first()
        if row is None:
            raise UnknownLease(lease_id)
        return self._lease_of(row)

    def leases(self, *states: LeaseState) -> list[Lease]:
        """The leases in these states, oldest first; without states, all active ones. Active ones come from memory."""
        wanted = frozenset(states) or ACTIVE
        with self._memory_lock:
            found = [lease for state in self._active.keys() & wanted for lease in self._active[state].values()]
        if wanted - ACTIVE:
            table = schema.leases.c
            chosen = schema.SELECT_LEASES.where(table.ended_at.is_not(None), table.state.in_(sorted(wanted)))
            with self.database.reading() as connection:
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
        with self.database.reading() as connection:
            return [(row.frame, Delivery(**row.delivery)) for row in connection.execute(chosen) if row.delivery]

    def first(self, state: LeaseState, suits: Callable[[Lease], bool]) -> Lease | None:
        """Of the leases in an active state, the one that came there first among those that suit."""
        with self._memory_lock:
            return next(filter(suits, self._active[state].values()), None)

    def _lease_of(self, row: sa.Row[Any]) -> Lease:
        return schema.lease_of(row, self.database.sealer)

    def counts(self) -> dict[LeaseState, int]:
        """How many leases stand in each state, ended ones included; from memory."""
        with self._memory_lock:
            return {state: self._counts[state] for state in LeaseState}

    def history(self, limit: int = 100) -> list[Lease]:
        """The leases that ended last, latest first."""
        ended_at = schema.leases.c.ended_at
        latest = schema.SELECT_LEASES.where(ended_at.is_not(None)).order_by(ended_at.desc()).limit(limit)
        with self.database.reading() as connection:
            return [self._lease_of(row) for row in connection.execute(latest)]

    def attempts(self, lease_id: str) -> list[Attempt]:
        """Every order of a lease, first one first."""
        table = schema.attempts
        chosen = sa.select(table).where(table.c.lease_id == lease_id).order_by(table.c.attempt)
        with self.database.reading() as connection:
            return [Attempt(**row) for row in connection.execute(chosen).mappings()]

    def answer(self, lease_id: str) -> int | None:
        """The status with which the server ended the lease, if it did."""
        chosen = sa.select(schema.leases.c.answer).where(schema.leases.c.id == lease_id)
        with self.database.reading() as connection:
            return connection.execute(chosen).scalar()
