"""HTTP over TLS for clients that use the standard library: they ask for a name of the farm, whatever they call."""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from typing import Any

from .certificates import COORDINATOR_NAME


class FarmConnection(http.client.HTTPSConnection):
    """A connection whose other end must be ``name``, not the host that is called."""

    def __init__(self, host: str, port: int | None = None, *, name: str, context: ssl.SSLContext, **how: Any) -> None:
        super().__init__(host, port, context=context, **how)
        self._name, self._farm_context = name, context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._farm_context.wrap_socket(self.sock, server_hostname=self._name)


class CoordinatorHandler(urllib.request.HTTPSHandler):
    """For ``urllib``: whoever answers an https address must be this farm's coordinator."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._farm_context = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connect(host: str, **how: Any) -> FarmConnection:
            how.pop("context", None)
            how.pop("check_hostname", None)
            return FarmConnection(host, name=COORDINATOR_NAME, context=self._farm_context, **how)

        return self.do_open(connect, req)  # pyright: ignore[reportArgumentType]
