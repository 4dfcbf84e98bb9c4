"""Where nodes and Flower reach the farm's Redis, each with a user of its own."""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from coordinator.runtime.shown_host import shown_host
from sheepfold.config import is_loopback

_PORT = 6379


class WorkerAddress:
    """The coordinator's own address with another login, host and port as others reach it.

    Where a ``worker_url`` is given, host, port and scheme are its. Else a loopback address is this machine's, by the
    name that others know it by.
    """

    def __init__(self, redis_url: str, worker_url: str | None, public_url: str | None) -> None:
        own = urlsplit(redis_url)
        self._own_login = own.netloc.rpartition("@")[0]
        self._parts = urlsplit(worker_url)._replace(path=own.path) if worker_url else own
        self._is_given, self._public_url = worker_url is not None, public_url

    @property
    def database(self) -> int:
        """Number of the database; the same for all."""
        digits = self._parts.path.strip("/")
        return int(digits) if digits.isdecimal() else 0

    def url_for(self, reached_by: str, user: str, password: str) -> str:
        """``reached_by`` is the host name that the caller used for us. Holds a password: never log it."""
        return self._url(reached_by, f"{quote(user, safe='')}:{quote(password, safe='')}")

    def shared_url_for(self, reached_by: str) -> str:
        """The same with the coordinator's own login."""
        return self._url(reached_by, self._own_login)

    def _url(self, reached_by: str, login: str) -> str:
        host = self._parts.hostname or ""
        is_ours = is_loopback(host) and not self._is_given
        shown = shown_host(self._public_url, reached_by) if is_ours else shown_host(None, host)
        at = f"{login}@" if login else ""
        return urlunsplit(self._parts._replace(netloc=f"{at}{shown}:{self._parts.port or _PORT}"))
