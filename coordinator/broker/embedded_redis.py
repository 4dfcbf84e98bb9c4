"""A Redis of our own: found, started, adopted after a crash, and stopped with us.

The server runs in its own session, so that Ctrl+C reaches us and not it. It therefore outlives a coordinator that was
killed with -9: the next one finds it by port and password and adopts it with all queues intact. Two servers on one
append-only file would destroy it, so a predecessor that runs but cannot be adopted is ended first.

What lies in its folder is told in :mod:`coordinator.broker.redis_config`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from .errors import EmbeddedRedisError, RedisFailed
from .redis_config import RedisFolder
from .redis_discovery import find_redis
from .redis_probe import (
    EVERYWHERE,
    Address,
    Health,
    free_port,
    health_of,
    port_is_free,
    process_of,
    reachable,
    shut_down,
)

log = logging.getLogger(__name__)

#: Loading a large append-only file takes its time.
READY_WITHIN_S = 120
#: How often a starting or ending server is looked at.
LOOK_EVERY_S = 0.02
#: After SHUTDOWN, SIGTERM and SIGKILL each; everything of ours stops within 10 s.
STOP_WITHIN_S = 2
#: Ports tried before giving up; another program may take one between choice and start.
PORT_TRIES = 5


class EmbeddedRedis:
    """One Redis server that belongs to this folder; ``bind`` lists the addresses it listens on.

    ``binary`` is for a server that :func:`~coordinator.broker.redis_discovery.find_redis` would not choose.
    """

    def __init__(self, folder: Path, *, bind: Sequence[str] = ("127.0.0.1",), binary: Path | None = None) -> None:
        self._folder = RedisFolder(folder)
        # A port bound for every address cannot be bound once more for one of them.
        self._bind = next(((address,) for address in bind if address in EVERYWHERE), tuple(dict.fromkeys(bind)))
        self._binary = binary
        self._address: Address | None = None
        self._server: psutil.Process | None = None
        #: The same process where it is our own child: that has to be reaped.
        self._child: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"EmbeddedRedis({str(self._folder)!r}, port={self._address.port if self._address else None})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """For this machine. Holds the password: never log it."""
        return self._started().url

    @property
    def port(self) -> int:
        return self._started().port

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs under us."""
        return self._server.pid if self._server else None

    def alive(self) -> bool:
        """Whether the server takes commands under our user and password."""
        return self._address is not None and health_of(self._address) is Health.READY

    def start(self) -> None:
        """Adopt our server if it still runs, else start one; returns when it takes commands.

        After the server died, call it again: it starts the same one on its data. Raises :class:`NoRedis` or
        :class:`RedisFailed`.
        """
        self._folder.prepare()
        self._address = self._folder.address(self._bind)
        if self._adopt():
            return
        self._end_predecessor()
        self._binary = self._binary or find_redis()
        for _ in range(PORT_TRIES):
            if self._address is None or not port_is_free(self._address.host, self._address.port):
                self._address = self._new_address()
            if self._launch(self._address):
                log.info("started the embedded Redis on port %d (%s)", self._address.port, self._binary)
                return
        raise RedisFailed(f"no port for the embedded Redis after {PORT_TRIES} tries: {self._folder.last_words()}")

    def stop(self) -> None:
        """Shut the server down with its data safe on disk, within 8 s whatever happens. Stopping twice is fine."""
        server, self._server = self._server, None
        if server is not None:
            self._end(server, (self._ask, server.terminate, server.kill))
        self._child = None

    # Adopting

    def _adopt(self) -> bool:
        here = self._address
        if here is None or self._wait_while_loading(here) is not Health.READY:
            return False
        self._server = process_of(here)
        if self._server is None or not self._folder.is_configured(here, self._bind):
            return False
        log.info("adopted the embedded Redis that still runs on port %d", here.port)
        return True

    def _wait_while_loading(self, address: Address) -> Health:
        give_up_at = time.monotonic() + READY_WITHIN_S
        while (health := health_of(address)) is Health.LOADING and time.monotonic() < give_up_at:
            time.sleep(LOOK_EVERY_S)
        return health

    def _end_predecessor(self) -> None:
        server, self._server = self._server or self._folder.process(), None
        if server is not None and not self._has_ended(server):
            log.warning("ending the embedded Redis (pid %d), which is stuck or has other settings", server.pid)
            # SIGTERM is as gentle to it as SHUTDOWN, and one that is stuck answers neither.
            self._end(server, (server.terminate, server.kill))

    # Ending

    def _ask(self) -> None:
        if self._address is not None:
            shut_down(self._address)

    def _end(self, server: psutil.Process, ways: Sequence[Callable[[], object]]) -> None:
        for way in ways:
            with contextlib.suppress(psutil.NoSuchProcess):
                way()
            give_up_at = time.monotonic() + STOP_WITHIN_S
            while time.monotonic() < give_up_at:
                if self._has_ended(server):
                    return
                time.sleep(LOOK_EVERY_S)
        log.error("the embedded Redis (pid %d) cannot be ended", server.pid)

    def _has_ended(self, server: psutil.Process) -> bool:
        if self._child is not None and self._child.pid == server.pid:
            return self._child.poll() is not None
        try:
            # Nobody may be there to reap an adopted one: a zombie has ended too.
            return not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    # Starting

    def _launch(self, address: Address) -> bool:
        """False when somebody else took the port; raises :class:`RedisFailed`."""
        self._folder.configure(address, self._bind)
        with self._folder.open_log() as said:
            child = self._child = _spawn([str(self._binary), str(self._folder.config_file)], said)
        try:
            self._server = psutil.Process(child.pid)
            self._folder.remember(address, self._server)
            return self._wait_until_ready(address, child)
        except psutil.NoSuchProcess:
            raise RedisFailed(f"the embedded Redis ended at once: {self._folder.last_words()}") from None
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, address: Address, child: subprocess.Popen[bytes]) -> bool:
        give_up_at = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < give_up_at:
            if child.poll() is not None:
                self._server = self._child = None
                words = self._folder.last_words()
                if "in use" in words.lower():
                    return False
                raise RedisFailed(f"the embedded Redis ended with code {child.returncode}: {words}")
            if health_of(address) is Health.READY:
                return True
            time.sleep(LOOK_EVERY_S)
        raise RedisFailed(f"the embedded Redis was not ready after {READY_WITHIN_S} s: {self._folder.last_words()}")

    def _new_address(self) -> Address:
        host = reachable(self._bind)
        password = self._address.password if self._address else secrets.token_urlsafe(32)
        return Address(host=host, port=free_port(host), password=password)

    def _started(self) -> Address:
        if self._address is None:
            raise EmbeddedRedisError("the embedded Redis has not been started")
        return self._address


def _spawn(argv: Sequence[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    posix = os.name != "nt"
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        start_new_session=posix,
        umask=0o077 if posix else -1,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
