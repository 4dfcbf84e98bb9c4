"""What can go wrong on the wire, split by whose fault it is.

::

    ProtocolError
    ├── MalformedMessage     their XML or form fields cannot be read
    │   └── MessageTooLarge  ... because there is too much of it
    └── UnwritableMessage    our own message cannot be written: a bug or bad input of ours

Refusals with a status are not errors of the protocol: they are messages, and arrive as such.
"""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class ProtocolError(SheepfoldError):
    """Something is wrong with a message of the render protocol."""


class MalformedMessage(ProtocolError):
    """The other side sent something that is not a message of this protocol.

    ``reason`` says why in one line; ``excerpt`` holds at most the first 200 characters of what came.
    """

    def __init__(self, reason: str, excerpt: str = "") -> None:
        self.reason = reason
        self.excerpt = excerpt[:200]
        super().__init__(f"{reason}; it begins {self.excerpt!r}" if self.excerpt else reason)


class MessageTooLarge(MalformedMessage):
    """The other side sent more than any message of this protocol needs."""


class UnwritableMessage(ProtocolError):
    """A message of ours holds a character or value that the wire cannot carry."""
