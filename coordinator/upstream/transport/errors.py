"""What an exchange raises instead of an answer."""

from __future__ import annotations


class ServerSilent(Exception):
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


class BadResponse(Exception):
    """What came is no answer; the text says why. ``code`` is its HTTP status, 0: it has none."""

    def __init__(self, reason: str, code: int = 0) -> None:
        self.code = code
        super().__init__(reason)
