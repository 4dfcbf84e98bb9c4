"""What the coordinator keeps on disk, under ``SHEEPFOLD_STATE_DIR``.

::

    ledger.sqlite   leases, and small texts by key (coordinator.leases)
    spool/          pictures that wait for the server (coordinator.delivery.spool)
    reports/        error reports that wait for it (coordinator.upstream.uploads.error_reports)
    logs/           renderers' logs of failed attempts (coordinator.delivery.failure_logs)
    archives/       scenes and renderers (coordinator.archives.store)
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from coordinator.archives.store import ArchiveStore
from coordinator.delivery.failure_logs import FailureLogs
from coordinator.delivery.spool import Spool
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import ACTIVE
from coordinator.leases.ledger import Ledger
from coordinator.leases.ledger_database import LedgerDatabase, sqlite_url
from coordinator.settings import CoordinatorSettings
from coordinator.upstream.uploads.error_reports import ReportBox

_FARM_ID = "farm-id"


class StateFolder:
    """The stores in it, none of which has touched the disk before :meth:`open`."""

    def __init__(self, settings: CoordinatorSettings, clock: Callable[[], float]) -> None:
        """``clock`` gives Unix seconds that never jump."""
        folder = settings.state_dir
        self._database = LedgerDatabase(sqlite_url(folder / "ledger.sqlite"))
        self.ledger = Ledger(self._database, clock=clock)
        self.texts = KeyValueStore(self._database)
        self.counters = LeaseCounters()
        self.ledger.watch(self.counters.follow)
        self.spool = Spool(folder / "spool", limit_bytes=settings.max_picture)
        self.reports = ReportBox(folder / "reports")
        self.failure_logs = FailureLogs(folder / "logs")
        self.archives = ArchiveStore(
            folder / "archives", quota_bytes=settings.archive_quota, pinned=self.counters.needed_archives
        )

    def open_ledger(self) -> None:
        """Locks and reads the ledger; raises :class:`~coordinator.leases.errors.LedgerError`."""
        self._database.open()
        self.ledger.load()

    def open_folders(self) -> None:
        """Reads what is in the other stores; the ledger is open, and nobody else holds the farm."""
        self.spool.open()
        self._discard_orphans()
        self.reports.open()
        self.failure_logs.open()
        self.archives.open()

    def farm_id(self) -> str:
        """Who we are to other coordinators, for as long as the ledger lives; made at the first use."""
        farm_id = self.texts.get(_FARM_ID) or uuid.uuid4().hex
        self.texts.put(_FARM_ID, farm_id)
        return farm_id

    def session_keys(self) -> set[str]:
        """Keys of the sessions that leases and error reports from before a restart belong to."""
        return {lease.session_key for lease in self.ledger.leases(*ACTIVE)} | self.reports.session_keys()

    def close(self) -> None:
        """Lets another coordinator have the ledger."""
        self._database.close()

    def _discard_orphans(self) -> None:
        """Pictures that were stored and not entered: their nodes still have them and deliver again."""
        active = self.ledger.leases()
        wanted = {lease.delivery.picture for lease in active if lease.delivery}
        wanted |= {lease.held_back.delivery.picture for lease in active if lease.held_back}
        for name in self.spool.names():
            if name not in wanted:
                self.spool.discard(name)
