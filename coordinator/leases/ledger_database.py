"""The ledger's file: opened for its owner alone, by one coordinator at a time, and copied while in use.

SQLite's WAL and shared-memory files take over the database file's mode, so 0600 is set before SQLite first opens it.
A lock file beside it (``ledger.db.lock``) keeps a second coordinator out; the lock dies with its process, however that
ends. Another database than SQLite is a URL away: it gets none of this and must bring its own.

::

    LedgerError
    ├── LedgerInUse        another coordinator has it open
    ├── LedgerTooNew       a later sheepfold wrote it
    └── LedgerUnwritable   the disk is full, or the file is gone or damaged
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy import exc as sa_exc

from .sealing import Sealer

#: A backup or a reader holds the file for milliseconds; longer than this is a fault.
BUSY_TIMEOUT_MS = 5_000
#: Pages copied in one go while a backup runs; transitions pass between two of them.
BACKUP_PAGES = 256


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


def sqlite_url(path: Path) -> str:
    """The URL of a ledger in this file."""
    return sa.URL.create("sqlite", database=str(path.absolute())).render_as_string()


def sealer_beside(ledger: Path) -> Sealer:
    """What seals a ledger's secrets, with the key that lies beside it; raises :class:`LedgerUnwritable`."""
    path = ledger.with_name(f"{ledger.name}.key")
    try:
        return Sealer.from_file(path)
    except ValueError:
        raise LedgerUnwritable(
            f"{path} holds no key; move it away, and the secrets it sealed are asked for anew"
        ) from None


def file_of(url: str) -> Path | None:
    """The file behind a SQLite URL; ``None`` for other databases."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or parsed.database == ":memory:":
        raise LedgerError("a ledger in memory forgets: give it a file")
    return Path(parsed.database)


def lock_exclusively(path: Path) -> int:
    """Create folder and file for the owner alone and lock the ledger; the descriptor holds the lock.

    Raises :class:`LedgerInUse`.
    """
    with typed_errors():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(lock)
        except OSError:
            os.close(lock)
            raise LedgerInUse(path) from None
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        for existing in path.parent.glob(path.name + "*"):
            existing.chmod(0o600)
        return lock


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def engine_of(url: str) -> sa.Engine:
    """An engine whose SQLite transactions are real ones and last.

    Connections with the execution option ``reading`` take no write lock. Values never show in error texts: some of
    them are session cookies.
    """
    engine = sa.create_engine(url, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        sa_event.listen(engine, "connect", _prepare_sqlite)
        sa_event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin transactions when it sees fit, and commit before DDL; _begin_sqlite does it instead.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextlib.contextmanager
def typed_errors() -> Generator[None]:
    """Turns what the database or the disk throws into :class:`LedgerUnwritable`, without any value of a row."""
    try:
        yield
    except sa_exc.DBAPIError as error:
        raise LedgerUnwritable(f"the ledger cannot be used: {error.orig}") from None
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnwritable(f"the ledger cannot be used: {error}") from None


def backup_ledger(source: Path, target: Path) -> None:
    """Copy a ledger, in use or not, to ``target`` (mode 0600); an existing target is replaced once the copy is whole.

    Raises :class:`LedgerUnwritable`.
    """
    with typed_errors():
        if not source.is_file():
            raise LedgerUnwritable(f"there is no ledger at {source}")
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            _copy(source, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _copy(source: Path, part: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as here, contextlib.closing(sqlite3.connect(part)) as there:
        here.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        here.backup(there, pages=BACKUP_PAGES)
        # The copy is one file, whoever opens it: no WAL beside it.
        there.execute("PRAGMA journal_mode = DELETE")
    with part.open("rb+") as copied:
        os.fsync(copied.fileno())
