"""Where the coordinator hands out archives: a port of its own, beside the LAN API's."""

from __future__ import annotations

from typing import Protocol

from coordinator.runtime.errors import AddressInUse
from coordinator.settings import CoordinatorSettings
from sheepfold.sharing.archive_server import COORDINATOR_SENDS_AT_ONCE, ArchiveServer

from .store import ArchiveStore

#: The LAN API is 8420, the lab server 8421, a Redis of the composed farm 8422.
ABOVE_API = 3


class PublicAddress(Protocol):
    """How others reach this machine (:class:`coordinator.nodes.admission.NodeAdmission`)."""

    def archive_url_for(self, reached_by: str, port: int, /) -> str: ...


class ArchiveListener:
    """The coordinator's archive server: its port, and where others find it."""

    def __init__(
        self, store: ArchiveStore, archive_key: str, settings: CoordinatorSettings, address: PublicAddress
    ) -> None:
        self._store, self._settings, self._address = store, settings, address
        self._server = ArchiveServer(store.shared, archive_key, at_once=COORDINATOR_SENDS_AT_ONCE)

    @property
    def port(self) -> int:
        """The port it has taken; 0 before :meth:`bind`."""
        return self._server.port

    def bind(self) -> None:
        """Takes the port. Raises AddressInUse for one that was asked for.

        Where the default port is taken, any free one is used, so that two farms fit on one machine.
        """
        host, asked = self._settings.host, self._settings.archive_port
        try:
            self._server.bind(host, self._settings.port + ABOVE_API if asked is None else asked)
        except (OSError, OverflowError) as error:
            if asked is not None:
                reason = getattr(error, "strerror", None) or "there is no such port"
                raise AddressInUse("SHEEPFOLD_HOST, SHEEPFOLD_ARCHIVE_PORT", host, asked, reason) from None
            self._server.bind(host, 0)

    def start(self) -> None:
        """Serves in a thread of its own from now on."""
        self._server.start()

    def stop(self) -> None:
        """Ends at once; who is cut off asks another node."""
        self._server.stop()

    def url_for(self, reached_by: str) -> str:
        """Where somebody finds it who reached us by this host name."""
        return self._address.archive_url_for(reached_by, self.port)

    def bytes_moved(self) -> dict[str, int]:
        """Bytes of archives since the start, ``from_server`` and ``to_lan``."""
        return {"from_server": self._store.bytes_fetched, "to_lan": self._server.bytes_sent}
