"""The folder of the embedded Redis, 0700 with every file 0600.

::

    redis.json   port and the coordinator's password, chosen at the first start and kept; and the process
    redis.conf   written anew at each start; the password's hash stands here, in neither argv nor environment
    redis.log    what the server says
    data/        its append-only file

Nobody is let in but the coordinator's user, and the users that the coordinator makes
(:mod:`coordinator.broker.redis_users`); a server that is started anew has forgotten those.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import psutil

from sheepfold.atomic_files import prepare_folder, write_atomically
from sheepfold.contract.broker_messages import MAX_MESSAGE_BYTES

from .redis_probe import COORDINATOR_USER, Address, reachable

log = logging.getLogger(__name__)

#: 4 to 9 connections a worker, and a thousand workers.
MAX_CLIENTS = 20_000
#: Twice the largest message; one value of Redis' own limit would be 512 MB.
MAX_VALUE_BYTES = 2 * MAX_MESSAGE_BYTES
#: Lines of the server's log that go into an error.
LOG_LINES = 5
#: Two readings of one process's birth differ by rounding only.
SAME_BIRTH_S = 0.1

_CONFIG = """\
bind {bind}
port {port}
protected-mode yes
user default reset
user {user} on #{password_sum} ~* &* +@all
proto-max-bulk-len {max_value}
client-query-buffer-limit {max_query}
daemonize no
dir "{data}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
maxclients {max_clients}
tcp-keepalive 60
"""


class RedisFolder:
    """What one embedded Redis leaves on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._record = folder / "redis.json"
        self.config_file = folder / "redis.conf"
        self._log = folder / "redis.log"

    def __str__(self) -> str:
        return str(self._folder)

    def prepare(self) -> None:
        """Make it, for its owner alone."""
        for folder in (self._folder, self._data):
            prepare_folder(folder)
        self._folder.chmod(0o700)

    def remember(self, address: Address, server: psutil.Process) -> None:
        """Where the server listens and which process it is."""
        where = {"port": address.port, "coordinator_password": address.password}
        record = where | {"pid": server.pid, "born": server.create_time()}
        write_atomically(self._record, json.dumps(record).encode())

    def address(self, bind: Sequence[str]) -> Address | None:
        """Where the server of an earlier start listened."""
        record = self._read()
        try:
            password = str(record["coordinator_password"])
            return Address(host=reachable(bind), port=int(record["port"]), password=password)
        except (KeyError, ValueError, TypeError):
            return None

    def process(self) -> psutil.Process | None:
        """The process of an earlier start, if it is still that one: the number may be reused."""
        record = self._read()
        try:
            server = psutil.Process(int(record["pid"]))
            return server if abs(server.create_time() - float(record["born"])) < SAME_BIRTH_S else None
        except (psutil.Error, KeyError, ValueError, TypeError):
            return None

    def is_configured(self, address: Address, bind: Sequence[str]) -> bool:
        """Whether the server of an earlier start was told what we would tell it."""
        return _text_of(self.config_file) == self._config(address, bind)

    def configure(self, address: Address, bind: Sequence[str]) -> None:
        """Writes the server's configuration, with the sum of the password, for the next start."""
        write_atomically(self.config_file, self._config(address, bind).encode())

    def open_log(self) -> IO[bytes]:
        """A new log for its owner alone; that of the last start is gone."""
        self._log.unlink(missing_ok=True)
        return os.fdopen(os.open(self._log, os.O_WRONLY | os.O_CREAT, 0o600), "wb")

    def last_words(self) -> str:
        """The end of the log. A complaint about the configuration quotes a line of it, where no password stands."""
        lines = _text_of(self._log).splitlines()[-LOG_LINES:]
        return " | ".join(line.strip() for line in lines if line.strip()) or "it said nothing"

    def _config(self, address: Address, bind: Sequence[str]) -> str:
        return _CONFIG.format(
            bind=" ".join(bind),
            port=address.port,
            user=COORDINATOR_USER,
            password_sum=hashlib.sha256(address.password.encode()).hexdigest(),
            max_value=MAX_VALUE_BYTES,
            max_query=2 * MAX_VALUE_BYTES,
            data=str(self._data.absolute()).replace("\\", "\\\\").replace('"', '\\"'),
            max_clients=MAX_CLIENTS,
        )

    def _read(self) -> dict[str, Any]:
        try:
            record: Any = json.loads(self._record.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            record = None
        if isinstance(record, dict):
            return cast("dict[str, Any]", record)
        log.warning("%s is unreadable; the embedded Redis gets a new port and password", self._record)
        return {}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
