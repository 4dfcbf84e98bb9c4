"""The ledger's file: who may open it, its backup, its versions, and what a kill -9 leaves."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.leases import ledger_schema
from coordinator.leases.errors import LedgerError, LedgerInUse, LedgerTooNew, LedgerUnwritable
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import (
    ACTIVE,
    LeaseEvent,
    LeaseState,
)
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_database import LedgerDatabase, backup_ledger, engine_of, sqlite_url
from tests.support.coordinator.builders import open_ledger
from tests.support.coordinator.ledger_harness import SESSION, TickingClock, delivered, held_back
from tests.support.coordinator.ledger_writer import offer

S, E = LeaseState, LeaseEvent
WRITER = "tests.support.coordinator.ledger_writer"


def test_a_second_coordinator_is_kept_out_until_the_first_has_gone(ledger: Ledger, ledger_path: Path) -> None:
    with pytest.raises(LedgerInUse):
        open_ledger(ledger_path)
    ledger.database.close()
    ledger.database.close()
    open_ledger(ledger_path).database.close()


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_only_the_owner_may_read_any_of_its_files(ledger: Ledger, ledger_path: Path) -> None:
    delivered(ledger)
    assert stat.S_IMODE(ledger_path.parent.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in ledger_path.parent.iterdir()}
    assert set(modes) >= {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert set(modes.values()) == {0o600}


def test_writes_wait_for_the_disk(ledger: Ledger) -> None:
    with ledger.database.reading() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
        foreign = connection.exec_driver_sql("PRAGMA foreign_keys").scalar()
    assert (pragmas, foreign) == (["wal", 2], 1)


def test_a_backup_is_whole_while_leases_go_on(ledger: Ledger, ledger_path: Path, tmp_path: Path) -> None:
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
        backup_ledger(ledger_path, target)
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


def test_a_ledger_of_a_later_sheepfold_is_left_alone(ledger: Ledger, ledger_path: Path) -> None:
    ledger.database.close()
    with sqlite3.connect(ledger_path) as raw:
        raw.execute("UPDATE schema_version SET version = 99")
    before = ledger_path.read_bytes()
    with pytest.raises(LedgerTooNew) as caught:
        open_ledger(ledger_path)
    assert caught.value.found == 99
    assert ledger_path.read_bytes() == before


NOW = ledger_schema.SCHEMA_VERSION


def test_an_older_ledger_is_brought_forward_step_by_step(ledger: Ledger, ledger_path: Path) -> None:
    lease = delivered(ledger)
    ledger.database.close()
    engine = engine_of(sqlite_url(ledger_path))
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


def test_a_migration_that_fails_leaves_the_older_ledger(ledger: Ledger, ledger_path: Path) -> None:
    ledger.database.close()
    engine = engine_of(sqlite_url(ledger_path))
    steps = {NOW: ("ALTER TABLE leases ADD COLUMN colour TEXT", "THIS IS NO SQL")}
    with pytest.raises(sa.exc.OperationalError), engine.connect() as connection, connection.begin():
        ledger_schema.prepare_schema(connection, target=NOW + 1, migrations=steps)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version FROM schema_version")).scalar() == NOW
        assert "colour" not in {column["name"] for column in sa.inspect(connection).get_columns("leases")}
    engine.dispose()


def test_a_ledger_of_version_1_goes_on(ledger: Ledger, ledger_path: Path) -> None:
    lease = delivered(ledger)
    ledger.database.close()
    with sqlite3.connect(ledger_path) as raw:
        raw.execute("ALTER TABLE leases DROP COLUMN held_back")
        raw.execute("ALTER TABLE leases DROP COLUMN nodes_lost")
        # Deliveries did not say then how the picture looks.
        raw.execute("UPDATE leases SET delivery = json_remove(delivery, '$.is_empty', '$.is_confirmed')")
        raw.execute("UPDATE schema_version SET version = 1")
    after = open_ledger(ledger_path, TickingClock())
    assert after.get(lease.id) == lease
    other = held_back(after)
    assert after.get(other.id).held_back
    after.database.close()


def test_a_ledger_of_version_2_goes_on(ledger: Ledger, ledger_path: Path) -> None:
    lease = delivered(ledger)
    ledger.database.close()
    with sqlite3.connect(ledger_path) as raw:
        raw.execute("ALTER TABLE leases DROP COLUMN nodes_lost")
        raw.execute("UPDATE schema_version SET version = 2")
    after = open_ledger(ledger_path, TickingClock())
    assert after.get(lease.id) == lease
    after.database.close()


def test_a_write_the_database_refuses_is_typed_and_changes_nothing(ledger: Ledger, ledger_path: Path) -> None:
    lease = delivered(ledger)
    store = KeyValueStore(ledger.database)
    store.put("session", "cookie=secret")
    with sqlite3.connect(ledger_path) as raw:
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
    with sqlite3.connect(ledger_path) as raw:
        raw.execute("DROP TRIGGER full")
    assert ledger.apply(lease.id, E.ACCEPT).state is S.ACCEPTED


def test_a_ledger_somebody_else_wrote_to_is_noticed(ledger: Ledger, ledger_path: Path) -> None:
    lease = delivered(ledger)
    with sqlite3.connect(ledger_path) as raw:
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
def test_after_a_kill_9_every_transition_that_was_told_is_there(ledger_path: Path, after_lines: int) -> None:
    with subprocess.Popen([sys.executable, "-m", WRITER, str(ledger_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        try:
            lines = [writer.stdout.readline() for _ in range(after_lines)]
        finally:
            writer.kill()
        lines += writer.stdout.read().splitlines(keepends=True)
    latest: dict[str, tuple[LeaseState, int]] = {}
    order = list(S)
    for line in lines:
        lease_id, state, attempt = line.decode().split()
        latest[lease_id] = (LeaseState(state), int(attempt))

    ledger = open_ledger(ledger_path)
    for lease_id, (state, attempt) in latest.items():
        lease = ledger.get(lease_id)
        # The writer died between the disk and its word at most once for each of its threads: one step further.
        assert (lease.attempt, order.index(lease.state)) >= (attempt, order.index(state))
    assert sum(ledger.counts().values()) - len(latest) in range(4)
    assert len(ledger.leases()) == sum(count for state, count in ledger.counts().items() if state in ACTIVE) <= 3
    for lease in ledger.leases():
        assert ledger.apply(lease.id, E.CANCEL).state is S.CANCELLED
    ledger.database.close()
    with sqlite3.connect(ledger_path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
