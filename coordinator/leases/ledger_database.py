"""The database behind the ledger: opened for its owner alone, by one coordinator at a time, and copied while in use.

:class:`LedgerDatabase` is what :class:`coordinator.leases.ledger.Ledger` (the leases) and
:class:`coordinator.leases.key_value.KeyValueStore` (small texts) stand on. It has one connection that writes, and as
many that read as there are threads that do.

SQLite's WAL and shared-memory files take over the database file's mode, so 0600 is set before SQLite first opens it.
A lock file beside it (``ledger.db.lock``) keeps a second coordinator out; the lock dies with its process, however that
ends. Another database than SQLite may be named by its URL; none of this is done for it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy import exc as sa_exc

from sheepfold.atomic_files import atomically_replaced

from .errors import LedgerError, LedgerInUse, LedgerUnwritable
from .ledger_schema import prepare_schema
from .sealing import Sealer

#: A backup or a reader holds the file for milliseconds; longer than this is a fault.
BUSY_TIMEOUT_MS = 5_000
#: Pages copied in one go while a backup runs; transitions pass between two of them.
BACKUP_PAGES = 256


class LedgerDatabase:
    """One database, open or not. Thread-safe: writes wait for each other, reads for nothing."""

    def __init__(self, url: str) -> None:
        """``url`` is SQLAlchemy's; raises :class:`LedgerError` for a database in memory. Opens nothing yet."""
        self._path = file_of(url)
        self._engine = engine_of(url)
        #: Descriptor of the lock file while the database is open.
        self._file_lock: int | None = None
        self._writer: sa.Connection | None = None
        self._write_lock = threading.Lock()
        #: Seals what nobody may read in the file; with the key beside the file once it is open.
        self.sealer = Sealer()

    def open(self) -> LedgerDatabase:
        """Locks the file, makes or updates the tables, and returns itself.

        Raises :class:`LedgerInUse`, :class:`LedgerTooNew` or :class:`LedgerUnwritable`, and holds no lock then.
        """
        if self._path:
            self._file_lock = lock_exclusively(self._path)
        try:
            with typed_errors():
                if self._path:
                    self.sealer = sealer_beside(self._path)
                self._writer = self._engine.connect()
            self.write(prepare_schema)
        except BaseException:
            self.close()
            raise
        return self

    def write(self, write: Callable[[sa.Connection], object]) -> None:
        """Runs ``write`` in a transaction, which is on disk when this returns; raises :class:`LedgerError`."""
        with self._write_lock:
            if self._writer is None:
                raise LedgerError("the ledger is closed")
            with typed_errors(), self._writer.begin():
                write(self._writer)

    @contextlib.contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """A connection that takes no write lock; what the database throws meanwhile is a :class:`LedgerError`."""
        with typed_errors(), self._engine.connect().execution_options(reading=True) as connection:
            yield connection

    def backup(self, target: Path) -> None:
        """Copies the database as it is now; writes go on meanwhile. See :func:`backup_ledger`."""
        if self._path is None:
            raise LedgerError("this database is backed up with its own tools")
        backup_ledger(self._path, target)

    def close(self) -> None:
        """Closes the database and lets another coordinator have it; closing twice is fine."""
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._engine.dispose()
            if self._file_lock is not None:
                os.close(self._file_lock)
                self._file_lock = None


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
        raise LedgerError("a ledger must be a file, a database in memory is lost at the end")
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
        with atomically_replaced(target) as part:
            _copy(source, part)


def _copy(source: Path, part: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as here, contextlib.closing(sqlite3.connect(part)) as there:
        here.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        here.backup(there, pages=BACKUP_PAGES)
        # The copy is one file, whoever opens it: no WAL beside it.
        there.execute("PRAGMA journal_mode = DELETE")
