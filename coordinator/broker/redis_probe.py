"""Looking at a Redis server from outside: does it answer, is it ours, which process is it, is its port free?"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: The coordinator's user in a Redis of its own, where there is no other but those that it makes.
COORDINATOR_USER = "sheepfold-coordinator"
#: The server is on this machine; one that takes longer than this is stuck.
PING_TIMEOUT_S = 2
#: Addresses that mean all of them → the one at which this machine reaches itself then.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}  # noqa: S104 - a table, nothing is bound


class Health(StrEnum):
    """What a server says to PING under our user and password."""

    READY = "ready"
    #: It is ours and still reads its data.
    LOADING = "loading"
    #: Nothing listens there, or it is another program, or it does not answer.
    SILENT = "silent"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server of ours listens and how it knows us."""

    host: str
    port: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """Holds the password: never log it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{COORDINATOR_USER}:{self.password}@{host}:{self.port}/0"


def reachable(bind: Sequence[str]) -> str:
    """The address at which this machine itself reaches a server bound to ``bind``."""
    first = bind[0].removeprefix("-")
    return "127.0.0.1" if "127.0.0.1" in bind else EVERYWHERE.get(first, first)


@contextlib.contextmanager
def client_of(address: Address) -> Generator[redis.Redis]:
    """A client for one or two commands; no retries, a short timeout."""
    client = redis.Redis(
        host=address.host,
        port=address.port,
        username=COORDINATOR_USER,
        password=address.password,
        socket_timeout=PING_TIMEOUT_S,
        socket_connect_timeout=PING_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield client
    finally:
        client.close()


def health_of(address: Address) -> Health:
    """Whether a server there takes commands under our password."""
    try:
        with client_of(address) as client:
            return Health.READY if client.ping() else Health.SILENT  # pyright: ignore[reportUnknownMemberType]
    except redis.BusyLoadingError:
        return Health.LOADING
    except (redis.RedisError, OSError):
        return Health.SILENT


def process_of(address: Address) -> psutil.Process | None:
    """The server's process; ``None`` where it cannot be told."""
    try:
        with client_of(address) as client:
            info: Any = client.info("server")  # pyright: ignore[reportUnknownMemberType]
            return psutil.Process(int(info["process_id"]))
    except (redis.RedisError, OSError, psutil.Error, KeyError, ValueError):
        return None


def shut_down(address: Address) -> None:
    """Ask the server to write its data out and end; whether it did is for the caller to see."""
    with contextlib.suppress(redis.RedisError, OSError), client_of(address) as client:
        client.shutdown()  # pyright: ignore[reportUnknownMemberType]


def free_port(host: str) -> int:
    """A port nobody listens on right now."""
    with _socket(host) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with _socket(host) as probe:
        if sys.platform != "win32":
            # As Redis itself does: connections of a predecessor may linger in TIME_WAIT.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
