"""Why a node's claim about a lease, or the picture it sends, is not taken.

::

    DeliveryError
    ├── StaleClaim        the lease is at another attempt: the node drops it
    │   └── NotYourLease  ... this very attempt is another node's, which no order can have told it
    ├── BrokenPicture     the node's picture must not go to the server: its attempt has failed
    └── SpoolError        the picture did not arrive as a file
        ├── BadName       lease id, attempt or suffix is none: it would become a path
        └── CutOff        part of the picture is missing: the node sends it again

``TooLarge`` and ``DiskFull`` are in :mod:`sheepfold.errors`.
"""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class DeliveryError(SheepfoldError):
    """What a node says about a lease is not taken."""


class StaleClaim(DeliveryError):
    """The node must drop this lease: it is no longer its own."""


class NotYourLease(StaleClaim):
    """The attempt that a node names was ordered from another node."""

    def __init__(self, lease_id: str) -> None:
        self.lease_id = lease_id
        super().__init__("this attempt was ordered from another node")


class BrokenPicture(DeliveryError):
    """The picture must not go to the server; the text says what is wrong with it."""


class SpoolError(DeliveryError):
    """A picture cannot be taken into the spool."""


class BadName(SpoolError):
    """A name is not one of the spool's."""

    def __init__(self, name: str) -> None:
        self.name = name[:80]
        super().__init__(f"{self.name!r} is not a name the spool takes")


class CutOff(SpoolError):
    """What arrived is not what was sent."""

    def __init__(self, expected: str, got: str) -> None:
        self.expected, self.got = expected, got
        super().__init__(f"the picture's MD5 is {got}, its sender said {expected[:40]}")
