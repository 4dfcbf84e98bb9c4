"""What can come of an exchange with the render server instead of an answer, split by whose fault it is.

::

    UpstreamError
    ├── ServerSilent          no usable answer: ask again later
    │   └── BadAnswer         ... the server is there, and what it said is nothing we can use
    ├── ArchiveGone           the server no longer has the archive that its own frame needs
    ├── UnknownGeneration     the server speaks a generation of the protocol that we do not
    ├── FatalRefusal          the server said no, and waiting can't mend it
    ├── DownloadCancelled     we asked for the end of it
    └── within one exchange, all of which end as ServerSilent
        ├── BadResponse       what came is no answer
        └── DeadlinePassed    its time was up before its connection was made

Refusals with a status are messages of the protocol, and no errors.
"""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError
from sheepfold.protocol.dialects import DIALECTS
from sheepfold.protocol.session_messages import Endpoints


class UpstreamError(SheepfoldError):
    """The render server did not do what was asked."""


class ServerSilent(UpstreamError):
    """The server gave no usable answer: unreachable, too slow, HTTP 5xx, or not a message of the protocol.

    ``url`` has neither query nor user name; ``reason`` is one line for a person.
    """

    def __init__(self, exchange: str, url: str, reason: str) -> None:
        self.exchange, self.url, self.reason = exchange, url, reason
        super().__init__(f"{exchange} at {url}: {reason}")


class BadAnswer(ServerSilent):
    """The server is there, and what it said to this exchange is nothing we can use.

    ``code`` is the HTTP status; 0 where it never came to one (an address where no server may send us).
    """

    def __init__(self, exchange: str, url: str, reason: str, code: int) -> None:
        self.code = code
        super().__init__(exchange, url, reason)


class ArchiveGone(UpstreamError):
    """The server no longer has this archive (HTTP 404)."""


class UnknownGeneration(UpstreamError):
    """The server gave us a session, and nothing of ours can be done with its request types."""

    exit_code = ExitCode.REFUSED

    def __init__(self, endpoints: Endpoints, unknown: tuple[str, ...]) -> None:
        self.missing = min((dialect.missing_in(endpoints) for dialect in DIALECTS), key=len)
        self.unknown = unknown
        strange = f"; it has {', '.join(unknown)} instead" if unknown else ""
        super().__init__(
            "the server speaks a generation of the protocol that sheepfold does not: "
            f"it has no {', '.join(self.missing)}{strange}"
        )


class FatalRefusal(UpstreamError):
    """The server said no in a way that waiting can't mend; the text is one line for the operator."""

    exit_code = ExitCode.REFUSED


class DownloadCancelled(UpstreamError):
    """The download was given up because its caller no longer wants it."""


class BadResponse(UpstreamError):
    """What came is no answer; the text says why. ``code`` is its HTTP status, 0: it has none."""

    def __init__(self, reason: str, code: int = 0) -> None:
        self.code = code
        super().__init__(reason)


class DeadlinePassed(UpstreamError):
    """The exchange's time was up before its connection was made."""
