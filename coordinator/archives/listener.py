"""Where the coordinator hands out archives: a port of its own, beside the LAN API's."""

from __future__ import annotations

from coordinator.runtime.http_server import AddressInUse
from coordinator.settings import CoordinatorSettings
from sheepfold.sharing.archive_server import COORDINATOR_SENDS_AT_ONCE, ArchiveLookup, ArchiveServer

#: The LAN API is 8420, the lab server 8421, a Redis of the composed farm 8422.
ABOVE_DEPOT = 3


def open_archive_server(lookup: ArchiveLookup, farm_token: str, settings: CoordinatorSettings) -> ArchiveServer:
    """A server that is not started yet; its socket is bound. Raises AddressInUse for a port that was asked for.

    A port nobody asked for gives way: two farms on one machine are no mistake.
    """
    asked = settings.archive_port
    wanted = settings.port + ABOVE_DEPOT if asked is None else asked
    try:
        return _open(lookup, farm_token, settings, wanted)
    except (OSError, OverflowError) as error:
        if asked is not None:
            reason = getattr(error, "strerror", None) or "there is no such port"
            raise AddressInUse(
                f"SHEEPFOLD_HOST, SHEEPFOLD_ARCHIVE_PORT: cannot listen on {settings.host}:{asked}: {reason}"
            ) from None
        return _open(lookup, farm_token, settings, 0)


def _open(lookup: ArchiveLookup, farm_token: str, settings: CoordinatorSettings, port: int) -> ArchiveServer:
    return ArchiveServer(lookup, farm_token, settings.host, port, at_once=COORDINATOR_SENDS_AT_ONCE)
