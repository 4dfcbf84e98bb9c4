"""Runs a web application on uvicorn beside the coordinator's loops."""

from __future__ import annotations

import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from sheepfold.serving.connection_limits import ConnectionRules
from sheepfold.serving.listening import listen
from sheepfold.serving.tls_or_plain import TlsRules
from sheepfold.serving.uvicorn_protocol import guarded_protocol

from .errors import AddressInUse

#: Answers under way when we stop get this long (seconds).
GRACE_S = 2
#: A node speaks several times for each frame; its connections last from one frame to the next (seconds).
KEPT_ALIVE_S = 30


class UvicornThread:
    """An application at an address: :meth:`bind`, then :meth:`start`, then :meth:`stop`."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        rules: ConnectionRules | None = None,
        tls: TlsRules | None = None,
    ) -> None:
        """Without ``tls`` it serves plain HTTP alone."""
        self._host, self._port = host, port
        self._socket: socket.socket | None = None
        config = uvicorn.Config(
            app,
            http=guarded_protocol(rules, tls),
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
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def address(self) -> str:
        """``host:port``, as the operator set it."""
        return f"{self._host}:{self._port}"

    def bind(self) -> UvicornThread:
        """Takes the port, so that a taken one is told before anything runs; connections wait for :meth:`start`.

        Raises :class:`AddressInUse`.
        """
        try:
            self._socket = listen(self._host, self._port)
        except OSError as error:
            raise AddressInUse(
                "SHEEPFOLD_HOST, SHEEPFOLD_PORT", self._host, self._port, error.strerror or str(error)
            ) from None
        return self

    def start(self) -> UvicornThread:
        """Serves at the bound port from now on."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Waits for answers under way, :data:`GRACE_S` at most, then cuts them off."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(GRACE_S + 1)
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        assert self._socket is not None, "bind() comes first"
        self._server.run([self._socket])
