"""What the lab server stores: one SQLite database and the files beside it.

::

    <server_dir>/
        server.sqlite3            the tables below; WAL
        archives/<md5>.zip        project archives, by content
        test-frame.zip            the scene of test frames, made once
        renderers/<os>-<bits>.zip renderer archives made here (launchers)
        incoming/                 uploads on their way; emptied at start
        projects/<id>-<name>/frames/<frame>.<ext>   accepted pictures
        projects/<id>-<name>/thumbs/<frame>.jpg     their thumbnails, made when asked for
        projects/<id>-<name>/logs/<frame>.log       the last error report of a frame

Times are seconds since 1970. A picture is on disk before the row that says so is committed, so a power cut can at
worst make a frame be rendered once more.

One connection, one transaction at a time: the server has one database thread, and no statement ever waits for a lock.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.pool import StaticPool
from sqlalchemy.schema import CreateColumn

from lab.errors import StoreTooNew

SCHEMA_VERSION = 2
#: Jobs with a small number (under 20) are a service's own test frames; ours never look like one.
FIRST_PROJECT_ID = 100

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("login", String, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    #: scrypt of the password; see ``accounts.py`` for its parameters.
    Column("password_hash", LargeBinary, nullable=False),
    #: SHA-256 of the public key; null until the password is seen for the first time.
    Column("key_hash", LargeBinary),
    Column("may_render", Boolean, nullable=False),
    #: May submit projects and manage the server.
    Column("is_owner", Boolean, nullable=False),
)

web_sessions = Table(
    "web_sessions",
    metadata,
    #: SHA-256 of the cookie: whoever reads the database cannot take a session over.
    Column("id", String, primary_key=True),
    Column("login", String, nullable=False),
    Column("os", String, nullable=False),
    Column("bits", String, nullable=False),
    Column("version", String, nullable=False),
    Column("cpu", String, nullable=False),
    Column("cores", Integer, nullable=False),
    Column("ram", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("broken_frames", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("tests_wanted", Integer, nullable=False, server_default="0"),
    Column("tests_done", Integer, nullable=False, server_default="0"),
    Column("test_render_s", Integer, nullable=False, server_default="0"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("state", String, nullable=False),
    Column("archive_md5", String, nullable=False),
    Column("archive_bytes", Integer, nullable=False),
    #: Path of the .blend inside the archive.
    Column("scene_path", String, nullable=False),
    #: ``cpu``, ``gpu`` or ``either``.
    Column("compute", String, nullable=False),
    #: Pixels; null where nobody told.
    Column("width", Integer),
    Column("height", Integer),
    Column("test_frame", Boolean, nullable=False),
    Column("extras", String, nullable=False),
    Column("created_at", Float, nullable=False),
    #: Frames neither accepted nor failed.
    Column("remaining", Integer, nullable=False),
    #: What its person was told of the scene when it was submitted, one line each.
    Column("notes", String, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)

frames = Table(
    "frames",
    metadata,
    Column("project_id", Integer, ForeignKey("projects.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String, nullable=False),
    #: Who holds it, or who brought it.
    Column("login", String),
    Column("session_id", String),
    Column("granted_at", Float),
    Column("expires_at", Float),
    Column("accepted_at", Float),
    Column("render_s", Integer),
    Column("memory_kb", Integer),
    Column("cores", Integer),
    #: Of the accepted picture: file suffix without dot, bytes, wholly black or transparent.
    Column("suffix", String),
    Column("bytes", Integer),
    Column("black", Boolean),
    Column("errors", Integer, nullable=False, server_default="0"),
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("expiries", Integer, nullable=False, server_default="0"),
    #: Uploads of a frame that was already here; answered 0 and thrown away.
    Column("again", Integer, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
# The next frame of a project, and its frames by state: both straight from this index.
Index("frames_by_state", frames.c.project_id, frames.c.state, frames.c.number)
Index("leases_by_expiry", frames.c.expires_at, sqlite_where=frames.c.state == "leased")
Index("leases_by_session", frames.c.session_id, sqlite_where=frames.c.state == "leased")

#: Who was ever granted a frame: only they may bring it, however late.
grants = Table(
    "grants",
    metadata,
    Column("project_id", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("login", String, primary_key=True),
    Column("times", Integer, nullable=False),
    sqlite_with_rowid=False,
)


#: The pieces of archives that are handed out in pieces, in order; by MD5, which is also their name on the wire.
chunks = Table(
    "chunks",
    metadata,
    Column("archive_md5", String, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("md5", String, nullable=False, index=True),
    #: Where the piece begins in the archive, and how long it is, bytes.
    Column("offset", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    sqlite_with_rowid=False,
)

#: Uploads refused because they showed nothing where the frames around them did. A second one is believed, and then
#: the first counts against nobody.
black_refusals = Table(
    "black_refusals",
    metadata,
    Column("project_id", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("session_id", String, nullable=False),
    sqlite_with_rowid=False,
)


class Store:
    """The database and the folders of one server. Raises :class:`StoreTooNew`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("archives", "renderers", "projects", "incoming"):
            (folder / name).mkdir(exist_ok=True, mode=0o700)
        _empty(folder / "incoming")
        database = folder / "server.sqlite3"
        # The file exists with its mode before anything is written into it.
        os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
        self._lock = threading.RLock()
        self._engine = create_engine(
            f"sqlite+pysqlite:///{database}", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin_immediate)
        self._create()

    def _create(self) -> None:
        with self.transaction() as db:
            found = int(db.execute(text("PRAGMA user_version")).scalar_one())
            if found > SCHEMA_VERSION:
                raise StoreTooNew(found, SCHEMA_VERSION)
            # Version 0 is an empty database. Later versions only add tables, and columns that may be empty.
            metadata.create_all(db)
            _add_columns(db)
            if found == 0:
                start = {"name": "projects", "seq": FIRST_PROJECT_ID - 1}
                db.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), start)
            db.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """One transaction: committed at the end, rolled back when anything is raised."""
        with self._lock, self._engine.begin() as connection:
            yield connection

    def incoming(self) -> Path:
        """A fresh path for an upload on its way."""
        return self.folder / "incoming" / uuid.uuid4().hex

    def archive(self, md5: str) -> Path:
        """Where a project's archive lies, or would lie."""
        return self.folder / "archives" / f"{md5}.zip"

    def renderer(self, platform: str) -> Path:
        """Where a renderer archive made here lies; ``platform`` is ``linux/64bit``."""
        return self.folder / "renderers" / f"{platform.replace('/', '-')}.zip"

    def project_folder(self, project_id: int, name: str) -> Path:
        """A project's folder, called so that a person finds it."""
        plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:60].strip("-")
        return self.folder / "projects" / (f"{project_id}-{plain}" if plain else str(project_id))

    def close(self) -> None:
        """Close the database; the write-ahead log is folded in."""
        with self._lock:
            self._engine.dispose()


def _add_columns(db: Connection) -> None:
    """The columns that a database of an earlier version lacks."""
    inspector = inspect(db)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                added = CreateColumn(column).compile(dialect=db.dialect)
                db.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {added}"))


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
