"""Where the coordinator hands out archives: a port of its own, beside the LAN API's."""

from __future__ import annotations

from coordinator.runtime.http_server import AddressInUse
from coordinator.settings import CoordinatorSettings
from sheepfold.sharing.archive_server import ArchiveServer

#: The LAN API is 8420, the lab server 8421, a Redis of the composed farm 8422.
ABOVE_DEPOT = 3


def bind_archive_server(server: ArchiveServer, settings: CoordinatorSettings) -> None:
    """Takes the server's port. Raises AddressInUse for one that was asked for.

    Where the default port is taken, any free one is used, so that two farms fit on one machine.
    """
    asked = settings.archive_port
    wanted = settings.port + ABOVE_DEPOT if asked is None else asked
    try:
        server.bind(settings.host, wanted)
    except (OSError, OverflowError) as error:
        if asked is not None:
            reason = getattr(error, "strerror", None) or "there is no such port"
            raise AddressInUse(
                f"SHEEPFOLD_HOST, SHEEPFOLD_ARCHIVE_PORT: cannot listen on {settings.host}:{asked}: {reason}"
            ) from None
        server.bind(settings.host, 0)
