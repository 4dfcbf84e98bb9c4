"""The cache that fetches a node's archives, and the server that sends them to other nodes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from render_tasks.coordinator_client import CoordinatorClient
from render_tasks.settings import WorkerSettings
from sheepfold.sharing.archive_server import NODE_SENDS_AT_ONCE, ArchiveServer

from .cache import ArchiveCache
from .swarm import Swarm

log = logging.getLogger(__name__)


class ArchiveSharing:
    """Opens when the worker has joined; closes with the process."""

    def __init__(
        self, coordinator: CoordinatorClient, node_id: str, archive_key: str, settings: WorkerSettings
    ) -> None:
        """``archive_key``: what the farm's passes of archives are made of."""
        self._coordinator, self._node_id, self._settings = coordinator, node_id, settings
        self._archive_key = archive_key
        self._server: ArchiveServer | None = None

    def open(self, folder: Path, on_evict: Callable[[Path], None]) -> ArchiveCache:
        """The node's cache; from now on other nodes are served, unless this PC is not to share or cannot."""
        settings, key = self._settings, self._archive_key
        cache = ArchiveCache(
            folder,
            Swarm(self._coordinator, key, self._node_id, self.url),
            quota_bytes=int(settings.cache_gb * 1000**3),
            share=settings.share,
            on_evict=on_evict,
        )
        if settings.share:
            host, port = settings.archive_host, settings.archive_port
            try:
                server = ArchiveServer(cache.shared, key, at_once=NODE_SENDS_AT_ONCE).bind(host, port)
                self._server = server.start()
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                log.warning(
                    "SHEEPFOLD_ARCHIVE_HOST, SHEEPFOLD_ARCHIVE_PORT: other PCs get no archives here: %s", reason
                )
        return cache

    def url(self) -> str:
        """Where other nodes find the server; empty: nowhere."""
        if self._server is None:
            return ""
        host = self._settings.archive_host
        if host in _EVERYWHERE:
            try:
                host = self._coordinator.own_address()
            except OSError:
                return ""  # no network right now
        return f"http://[{host}]:{self._server.port}" if ":" in host else f"http://{host}:{self._server.port}"

    def close(self) -> None:
        """Stops the server; other nodes ask somebody else."""
        if self._server is not None:
            self._server.stop()


_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 (to tell them apart from addresses)
