"""A session at the server: its cookies, its addresses and its dialect, and how it survives a restart."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from http.cookiejar import Cookie
from typing import Any

from coordinator.upstream.errors import BadAnswer
from coordinator.upstream.transport.addresses import public
from coordinator.upstream.transport.connections import SharedJar
from coordinator.upstream.transport.http_transport import HttpCall
from sheepfold.protocol.dialects import Dialect, dialect_of
from sheepfold.protocol.messages import ArchiveRequest
from sheepfold.protocol.session_messages import Endpoints


@dataclass(frozen=True, kw_only=True)
class ServerSession:
    """Swapped as a whole, so that no thread mixes two."""

    jar: SharedJar
    #: What relative endpoints are relative to.
    base: str
    endpoints: Endpoints
    #: What everything after the sign-in is written in.
    dialect: Dialect

    def endpoint_of(self, request: ArchiveRequest) -> tuple[str, bool]:
        """Which endpoint serves this archive, and whether the request has to say its type there."""
        if request.type == "chunk":
            return "download_chunk", False
        if request.type == "binary" and not self.endpoints.download_archive:
            return "download_binary", False
        return "download_archive", True

    def call(self, exchange: str, endpoint: str, **details: Any) -> HttpCall:
        """An exchange at one of the endpoints; raises BadAnswer where there is none."""
        return self.call_at(exchange, getattr(self.endpoints, endpoint), **details)

    def call_at(self, exchange: str, address: str, **details: Any) -> HttpCall:
        """An exchange at an address of its own."""
        if not address:
            raise BadAnswer(exchange, public(self.base), "the server offers no address for this exchange", 0)
        return HttpCall(exchange=exchange, base=self.base, path=address, jar=self.jar, **details)

    def frozen(self) -> dict[str, Any]:
        """All of it, cookies included, as JSON takes it: a secret."""
        return {
            "base": self.base,
            "endpoints": dataclasses.asdict(self.endpoints),
            "dialect": self.dialect.year,
            "cookies": [{name.lstrip("_"): value for name, value in vars(cookie).items()} for cookie in self.jar],
        }

    @classmethod
    def thawed(cls, data: Any) -> ServerSession:
        """The inverse of :meth:`frozen`; raises ``ValueError``, ``TypeError`` or ``KeyError``."""
        jar = SharedJar()
        for cookie in data["cookies"]:
            jar.set_cookie(Cookie(**cookie))
        return cls(
            jar=jar,
            base=data["base"],
            endpoints=Endpoints(**data["endpoints"]),
            dialect=dialect_of(data["dialect"]),
        )
