"""The ledger on a real disk: what it promises, also to whoever comes after a kill -9."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.leases import ledger_schema
from coordinator.leases.errors import LedgerError, LedgerInUse, LedgerTooNew, LedgerUnwritable
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import (
    ACTIVE,
    HeldBack,
    IllegalTransition,
    Lease,
    LeaseEvent,
    LeaseState,
    StaleAttempt,
    UnknownLease,
)
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_batch import Grant, Transition
from coordinator.leases.ledger_database import LedgerDatabase, backup_ledger, engine_of, sqlite_url
from tests.support.coordinator.builders import open_ledger
from tests.support.coordinator.ledger_writer import DELIVERY, offer

S, E = LeaseState, LeaseEvent
SESSION = "farm:linux/64bit"
WRITER = Path(__file__).parents[1] / "support" / "coordinator" / "ledger_writer.py"


class Clock:
    """Ticks one second each time it is read."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = open_ledger(path, Clock())
    yield opened
    opened.database.close()


def reopened(ledger: Ledger, path: Path) -> Ledger:
    ledger.database.close()
    return open_ledger(path, Clock())


def delivered(ledger: Ledger, frame: int = 1) -> Lease:
    lease = ledger.grant(offer(frame), SESSION)
    ledger.apply(lease.id, E.ORDER, node_id="n1")
    ledger.apply(lease.id, E.START, attempt=1)
    return ledger.apply(lease.id, E.DELIVER, attempt=1, delivery=DELIVERY)


def test_a_lease_comes_back_from_disk_exactly_as_it_went_in(ledger: Ledger, path: Path) -> None:
    lease = delivered(ledger)
    granted = ledger.grant(offer(2), SESSION)
    failed = ledger.apply(granted.id, E.ORDER, node_id="n1")
    failed = ledger.apply(failed.id, E.FAIL, attempt=1, reason="renderer crashed")
    again = reopened(ledger, path)
    assert again.get(lease.id) == lease
    assert again.get(failed.id) == failed
    assert (failed.failures, failed.tried_nodes, failed.attempt) == (1, ("n1",), 2)
    assert again.leases() == [lease, failed]
    again.database.close()


def test_an_ended_lease_is_remembered_with_the_servers_answer(ledger: Ledger, path: Path) -> None:
    lease = delivered(ledger)
    refused = ledger.apply(lease.id, E.REFUSE, reason="broken frame", answer=301)
    again = reopened(ledger, path)
    assert again.get(lease.id) == refused
    assert again.answer(lease.id) == 301
    assert again.leases() == []
    assert again.history() == [refused] == again.leases(S.REFUSED)
    again.database.close()


def test_the_accounts_know_what_each_attempt_came_to(ledger: Ledger) -> None:
    lease = ledger.grant(offer(1), SESSION)
    ledger.apply(lease.id, E.ORDER, node_id="n1")
    ledger.apply(lease.id, E.START, attempt=1)
    ledger.apply(lease.id, E.FAIL, attempt=1, reason="out of memory")
    ledger.apply(lease.id, E.ORDER, node_id="n2")
    ledger.apply(lease.id, E.RETRY, reason="n2 fell silent")
    ledger.apply(lease.id, E.ORDER, node_id="n3")
    ledger.apply(lease.id, E.START, attempt=3)
    arrived = ledger.apply(lease.id, E.DELIVER, attempt=3, delivery=DELIVERY)
    ledger.apply(lease.id, E.ACCEPT, answer=0)
    first, second, third = ledger.attempts(lease.id)
    assert (first.node_id, first.outcome, first.reason) == ("n1", "fail", "out of memory")
    assert first.started_at is not None
    assert (second.node_id, second.outcome, second.started_at) == ("n2", "retry", None)
    assert (third.node_id, third.outcome, third.ended_at) == ("n3", "accepted", arrived.changed_at)
    assert (third.render_s, third.memory_kb, third.bytes) == (1.5, 2, 10)


def test_a_wrong_claim_changes_nothing_in_memory_or_on_disk(ledger: Ledger, path: Path) -> None:
    lease = delivered(ledger)
    for event, attempt, error in ((E.DELIVER, 1, IllegalTransition), (E.ACCEPT, 2, StaleAttempt)):
        with pytest.raises(error):
            ledger.apply(lease.id, event, attempt=attempt)
    with pytest.raises(UnknownLease):
        ledger.apply("f" * 32, E.CANCEL)
    ended = ledger.apply(lease.id, E.CANCEL)
    with pytest.raises(IllegalTransition):
        ledger.apply(lease.id, E.ACCEPT)
    again = reopened(ledger, path)
    assert again.get(lease.id) == ended
    again.database.close()


def test_counts_know_every_state_before_and_after_a_restart(ledger: Ledger, path: Path) -> None:
    delivered(ledger, 1)
    ledger.grant(offer(2), SESSION)
    ledger.apply(delivered(ledger, 3).id, E.ACCEPT)
    expected = dict.fromkeys(S, 0) | {S.DELIVERED: 1, S.GRANTED: 1, S.ACCEPTED: 1}
    assert ledger.counts() == expected
    again = reopened(ledger, path)
    assert again.counts() == expected
    again.database.close()


def test_history_gives_the_latest_ends_first(ledger: Ledger) -> None:
    ids = [delivered(ledger, frame).id for frame in range(4)]
    for lease_id in reversed(ids):
        ledger.apply(lease_id, E.ACCEPT)
    assert [lease.id for lease in ledger.history(3)] == ids[:3]


def test_one_transaction_takes_what_holds_and_tells_what_does_not(ledger: Ledger) -> None:
    one, other = ledger.apply_many([Grant(offer=offer(n), session_key=SESSION) for n in range(2)])
    assert isinstance(one, Lease)
    assert isinstance(other, Lease)
    outcomes = ledger.apply_many(
        [
            Transition(lease_id=one.id, event=E.ORDER, node_id="n1"),
            Transition(lease_id=other.id, event=E.ACCEPT),
            Transition(lease_id=one.id, event=E.START, attempt=1),
            Transition(lease_id=one.id, event=E.START, attempt=1),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [Lease, IllegalTransition, Lease, IllegalTransition]
    assert ledger.get(one.id).state is S.RENDERING
    assert ledger.get(other.id).state is S.GRANTED
    assert ledger.attempts(one.id)[0].started_at is not None


def test_of_many_threads_that_claim_the_same_step_one_wins(ledger: Ledger) -> None:
    lease = ledger.apply(ledger.grant(offer(1), SESSION).id, E.ORDER, node_id="n1")
    together = threading.Barrier(8)

    def start() -> bool:
        together.wait(10)
        try:
            ledger.apply(lease.id, E.START, attempt=1)
        except IllegalTransition:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: start(), range(8)))
    assert sum(won) == 1


def test_a_script_is_stored_once_however_many_frames_carry_it(ledger: Ledger, path: Path) -> None:
    for frame in range(5):
        ledger.grant(offer(frame), SESSION)
    again = reopened(ledger, path)
    again.grant(offer(6), SESSION)
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM scripts").fetchone() == (1,)
    assert {lease.offer.script for lease in again.leases()} == {offer(1).script}
    again.database.close()


def test_small_texts_are_kept_replaced_and_deleted(ledger: Ledger, path: Path) -> None:
    store = KeyValueStore(ledger.database)
    store.put("session", "first")
    store.put("session", "second")
    store.put("key", "k")
    store.delete("key")
    store.delete("never kept")
    again = reopened(ledger, path)
    store = KeyValueStore(again.database)
    assert (store.get("session"), store.get("key"), store.get("other")) == ("second", None, None)
    again.database.close()


def test_a_second_coordinator_is_kept_out_until_the_first_has_gone(ledger: Ledger, path: Path) -> None:
    with pytest.raises(LedgerInUse):
        open_ledger(path)
    ledger.database.close()
    ledger.database.close()
    open_ledger(path).database.close()


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_only_the_owner_may_read_any_of_its_files(ledger: Ledger, path: Path) -> None:
    delivered(ledger)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) >= {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert set(modes.values()) == {0o600}


def test_writes_wait_for_the_disk(ledger: Ledger) -> None:
    with ledger.database.reading() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        foreign = connection.exec_driver_sql("PRAGMA foreign_keys").scalar()
    assert (pragmas, foreign) == (["wal", 2], 1)


def test_a_backup_is_whole_while_leases_go_on(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    lease = delivered(ledger)
    target = tmp_path / "copies" / "ledger.backup"
    target.parent.mkdir()
    target.write_bytes(b"an older copy")
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            ledger.grant(offer(1), SESSION)

    writing = threading.Thread(target=go_on)
    writing.start()
    try:
        backup_ledger(path, target)
    finally:
        stop.set()
        writing.join()
    assert [file.name for file in target.parent.iterdir()] == [target.name]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    copy = open_ledger(target)
    assert copy.get(lease.id) == lease
    copy.database.close()


def test_a_backup_of_nothing_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnwritable):
        backup_ledger(tmp_path / "none.db", tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_of_a_later_sheepfold_is_left_alone(ledger: Ledger, path: Path) -> None:
    ledger.database.close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE schema_version SET version = 99")
    before = path.read_bytes()
    with pytest.raises(LedgerTooNew) as caught:
        open_ledger(path)
    assert caught.value.found == 99
    assert path.read_bytes() == before


def test_a_job_is_asked_for_the_pictures_it_has(ledger: Ledger, path: Path) -> None:
    black = dataclasses.replace(DELIVERY, is_empty=True, is_confirmed=True)
    others = [
        ledger.grant(dataclasses.replace(offer(9), **change), SESSION)
        for change in ({"job_id": "13"}, {"revision": "2"})
    ]
    for lease in [*others, ledger.grant(offer(3), SESSION)]:
        ledger.apply(lease.id, E.ORDER, node_id="n1")
        ledger.apply(lease.id, E.START)
        ledger.apply(lease.id, E.DELIVER, delivery=black)
    ledger.apply(delivered(ledger, 1).id, E.ACCEPT)
    ledger.apply(delivered(ledger, 2).id, E.REFUSE)
    wanted = ledger.grant(offer(4), SESSION)
    after = reopened(ledger, path)
    assert sorted(after.pictures_of_job(wanted)) == [("0001", DELIVERY), ("0003", black)]
    after.database.close()


NOW = ledger_schema.SCHEMA_VERSION


def test_an_older_ledger_is_brought_forward_step_by_step(ledger: Ledger, path: Path) -> None:
    lease = delivered(ledger)
    ledger.database.close()
    engine = engine_of(sqlite_url(path))
    steps = {
        NOW: ("ALTER TABLE leases ADD COLUMN colour TEXT",),
        NOW + 1: ("UPDATE leases SET colour = 'red'", "CREATE INDEX by_colour ON leases (colour)"),
    }
    with engine.connect() as connection, connection.begin():
        ledger_schema.prepare_schema(connection, target=NOW + 2, migrations=steps)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version FROM schema_version")).scalar() == NOW + 2
        assert connection.execute(sa.text("SELECT id, colour FROM leases")).one() == (lease.id, "red")
    engine.dispose()


def test_a_migration_that_fails_leaves_the_older_ledger(ledger: Ledger, path: Path) -> None:
    ledger.database.close()
    engine = engine_of(sqlite_url(path))
    steps = {NOW: ("ALTER TABLE leases ADD COLUMN colour TEXT", "THIS IS NO SQL")}
    with pytest.raises(sa.exc.OperationalError), engine.connect() as connection, connection.begin():
        ledger_schema.prepare_schema(connection, target=NOW + 1, migrations=steps)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version FROM schema_version")).scalar() == NOW
        assert "colour" not in {column["name"] for column in sa.inspect(connection).get_columns("leases")}
    engine.dispose()


def test_a_ledger_of_version_1_goes_on(ledger: Ledger, path: Path) -> None:
    lease = delivered(ledger)
    ledger.database.close()
    with sqlite3.connect(path) as raw:
        raw.execute("ALTER TABLE leases DROP COLUMN held_back")
        # Deliveries did not say then how the picture looks.
        raw.execute("UPDATE leases SET delivery = json_remove(delivery, '$.is_empty', '$.is_confirmed')")
        raw.execute("UPDATE schema_version SET version = 1")
    after = open_ledger(path, Clock())
    assert after.get(lease.id) == lease
    other = held_back(after)
    assert after.get(other.id).held_back
    after.database.close()


def held_back(ledger: Ledger) -> Lease:
    """A lease whose picture waits for a second opinion."""
    lease = ledger.grant(offer(2), SESSION)
    ledger.apply(lease.id, E.ORDER, node_id="n1")
    ledger.apply(lease.id, E.START, attempt=1)
    return ledger.apply(lease.id, E.HOLD_BACK, attempt=1, delivery=DELIVERY, reason="black")


def test_a_picture_that_is_held_back_is_known_after_a_restart_and_what_it_took_is_in_the_accounts(
    ledger: Ledger, path: Path
) -> None:
    lease = held_back(ledger)
    ledger.apply(lease.id, E.ORDER, node_id="n2")
    after = reopened(ledger, path)
    found = after.get(lease.id)
    assert (found.state, found.attempt, found.failures) == (S.ORDERED, 2, 0)
    assert found.held_back == HeldBack(node_id="n1", delivery=DELIVERY)
    believed = after.apply(lease.id, E.BELIEVE)
    assert (believed.state, believed.node_id, believed.held_back) == (S.DELIVERED, "n1", None)
    first, second = after.attempts(lease.id)
    assert (first.outcome, first.reason, first.render_s, first.bytes) == ("hold back", "black", 1.5, 10)
    assert (second.outcome, second.node_id, second.render_s) == ("believe", "n2", None)
    last = reopened(after, path)
    assert last.get(lease.id) == believed
    last.database.close()


def test_a_write_the_database_refuses_is_typed_and_changes_nothing(ledger: Ledger, path: Path) -> None:
    lease = delivered(ledger)
    store = KeyValueStore(ledger.database)
    store.put("session", "cookie=secret")
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TRIGGER full BEFORE UPDATE ON leases BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        raw.execute("CREATE TRIGGER kept_full BEFORE UPDATE ON kept BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(LedgerUnwritable, match="disk full"):
        ledger.apply(lease.id, E.ACCEPT)
    with pytest.raises(LedgerUnwritable) as caught:
        store.put("session", "cookie=hidden")
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert (ledger.get(lease.id), ledger.counts()[S.DELIVERED]) == (lease, 1)
    assert store.get("session") == "cookie=secret"
    with sqlite3.connect(path) as raw:
        raw.execute("DROP TRIGGER full")
    assert ledger.apply(lease.id, E.ACCEPT).state is S.ACCEPTED


def test_a_ledger_somebody_else_wrote_to_is_noticed(ledger: Ledger, path: Path) -> None:
    lease = delivered(ledger)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE leases SET state = 'accepted'")
    with pytest.raises(LedgerUnwritable, match="something else wrote"):
        ledger.apply(lease.id, E.CANCEL)


def test_a_closed_ledger_takes_nothing(ledger: Ledger) -> None:
    ledger.database.close()
    with pytest.raises(LedgerError):
        ledger.grant(offer(1), SESSION)


def test_a_ledger_in_memory_is_refused() -> None:
    with pytest.raises(LedgerError):
        LedgerDatabase("sqlite://")


@pytest.mark.parametrize("after_lines", [1, 50, 400])
def test_after_a_kill_9_every_transition_that_was_told_is_there(path: Path, after_lines: int) -> None:
    with subprocess.Popen([sys.executable, str(WRITER), str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        try:
            told = [writer.stdout.readline() for _ in range(after_lines)]
        finally:
            writer.kill()
        told += writer.stdout.read().splitlines(keepends=True)
    latest: dict[str, tuple[LeaseState, int]] = {}
    order = list(S)
    for line in told:
        lease_id, state, attempt = line.decode().split()
        latest[lease_id] = (LeaseState(state), int(attempt))

    ledger = open_ledger(path)
    for lease_id, (state, attempt) in latest.items():
        lease = ledger.get(lease_id)
        # The writer died between the disk and its word at most once for each of its threads: one step further.
        assert (lease.attempt, order.index(lease.state)) >= (attempt, order.index(state))
    assert sum(ledger.counts().values()) - len(latest) in range(4)
    assert len(ledger.leases()) == sum(count for state, count in ledger.counts().items() if state in ACTIVE) <= 3
    for lease in ledger.leases():
        assert ledger.apply(lease.id, E.CANCEL).state is S.CANCELLED
    ledger.database.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []


def test_who_watches_is_told_what_is_there_and_then_every_step_that_is_on_disk(ledger: Ledger, path: Path) -> None:
    there = delivered(ledger, 1)
    steps: list[tuple[str | None, str]] = []
    ledger.watch(lambda before, after: steps.append((before.state.value if before else None, after.state.value)))
    assert steps == [(None, "delivered")]
    ledger.apply(there.id, E.ACCEPT)
    lease = ledger.grant(offer(2), SESSION)
    ledger.apply_many(
        [Transition(lease_id=lease.id, event=E.ORDER, node_id="n1"), Transition(lease_id=lease.id, event=E.START)]
    )
    with pytest.raises(IllegalTransition):
        ledger.apply(lease.id, E.ACCEPT)
    assert steps[1:] == [
        ("delivered", "accepted"),
        (None, "granted"),
        ("granted", "ordered"),
        ("ordered", "rendering"),
    ]


def test_a_step_that_the_disk_refuses_is_told_to_nobody(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = ledger.grant(offer(1), SESSION)
    steps: list[object] = []
    ledger.watch(lambda _before, after: steps.append(after))
    steps.clear()

    def full(_write: object) -> None:
        raise LedgerUnwritable("no room")

    monkeypatch.setattr(ledger.database, "write", full)
    with pytest.raises(LedgerUnwritable):
        ledger.apply(lease.id, E.ORDER, node_id="n1")
    assert not steps


def test_the_first_in_a_state_is_the_one_that_came_there_first_also_after_a_restart(ledger: Ledger, path: Path) -> None:
    leases = [ledger.grant(offer(number), SESSION) for number in range(3)]
    for lease in (leases[2], leases[0], leases[1]):
        ledger.apply(lease.id, E.ORDER, node_id="n1")
    for book in (ledger, reopened(ledger, path)):
        first = book.first(S.ORDERED, lambda _: True)
        assert first is not None
        assert first.id == leases[2].id
        second = book.first(S.ORDERED, lambda lease: lease.id != leases[2].id)
        assert second is not None
        assert second.id == leases[0].id
        assert book.first(S.DELIVERED, lambda _: True) is None
    book.database.close()


def test_a_lease_that_ended_long_ago_is_read_from_disk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.leases.ledger.REMEMBERED", 2)
    ended = []
    for number in range(4):
        lease = delivered(ledger, number)
        ended.append(ledger.apply(lease.id, E.ACCEPT, answer=0))
    assert [ledger.get(one.id) for one in ended] == ended
