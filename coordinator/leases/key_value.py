"""Small texts that survive a restart, by key: server sessions (sealed), the key that orders are signed with, and so on.

They stand in a table of the ledger's database. All of them are in memory after the first use.
"""

from __future__ import annotations

import threading

import sqlalchemy as sa

from . import ledger_schema as schema
from .ledger_database import LedgerDatabase


class KeyValueStore:
    """Durable texts by key. Thread-safe; one per database.

    Every method may raise :class:`~coordinator.leases.errors.LedgerError`, and has changed nothing then.
    """

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self._lock = threading.Lock()
        #: What stands in the table; ``None`` until somebody asks.
        self._cache: dict[str, str] | None = None

    def put(self, key: str, value: str) -> None:
        """On disk before this returns; the same value again costs nothing."""
        with self._lock:
            values = self._loaded()
            if values.get(key) != value:
                self._database.write(lambda connection: schema.put_text(connection, key, value))
                values[key] = value

    def get(self, key: str) -> str | None:
        """What was last put under ``key``."""
        with self._lock:
            return self._loaded().get(key)

    def put_secret(self, key: str, value: str) -> None:
        """As :meth:`put`, for a text that nobody may read in the file."""
        if self.get_secret(key) != value:
            self.put(key, self._database.sealer.seal(value))

    def get_secret(self, key: str) -> str | None:
        """What was last given to :meth:`put_secret`; ``None`` also where it was sealed with another key."""
        sealed = self.get(key)
        return self._database.sealer.open(sealed) if sealed else None

    def delete(self, key: str) -> None:
        """A key that is not there is fine."""
        with self._lock:
            values = self._loaded()
            if key in values:
                self._database.write(
                    lambda connection: connection.execute(sa.delete(schema.key_values).filter_by(key=key))
                )
                del values[key]

    def _loaded(self) -> dict[str, str]:
        if self._cache is None:
            with self._database.reading() as connection:
                rows = connection.execute(sa.select(schema.key_values))
                self._cache = {row.key: row.value for row in rows}
        return self._cache
