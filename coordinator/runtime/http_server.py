"""Runs a web application on uvicorn beside the coordinator's loops."""

from __future__ import annotations

import logging
import threading

import uvicorn
from starlette.types import ASGIApp

from sheepfold.listening import listen

#: Answers under way when we stop get this long (seconds).
GRACE_S = 2
#: A node speaks several times for each frame; its connections last from one frame to the next (seconds).
KEPT_ALIVE_S = 30


class AddressInUse(Exception):
    """Nothing can be served at this address."""


class UvicornThread:
    """An application at an address; the socket is bound at once, so that a taken port is told at once."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """Raises :class:`AddressInUse`; from now on connections wait for :meth:`start`."""
        try:
            self._socket = listen(host, port)
        except OSError as error:
            raise AddressInUse(
                f"SHEEPFOLD_HOST, SHEEPFOLD_PORT: cannot listen on {host}:{port}: {error.strerror}"
            ) from None
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=KEPT_ALIVE_S,
            lifespan="off",
            log_config=None,
        )
        # Whatever handler is attached to it later: queries are nobody's business.
        logging.getLogger("uvicorn.access").disabled = True
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="web", daemon=True)

    def start(self) -> None:
        """Serves from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Ends within the grace."""
        self._server.should_exit = True
        self._thread.join(GRACE_S + 1)
        self._socket.close()
