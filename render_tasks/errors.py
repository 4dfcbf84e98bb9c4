"""What can go wrong on a PC of the farm, split by whose fault it is.

::

    NodeError
    ├── CoordinatorError              the coordinator's side of the LAN
    │   ├── CoordinatorUnreachable  no usable answer: ask again later
    │   ├── TokenRefused        401, 403: the farm token is not the coordinator's
    │   ├── StaleLease          409: this attempt is no longer ours, drop it
    │   ├── FrameRejected       422: the coordinator read the picture and does not want it
    │   ├── ArchiveMissing      404: the coordinator does not hold this archive
    │   └── CoordinatorRefused  any other definite no
    ├── AttemptFailed           one attempt gives no picture; carries the report for the coordinator
    ├── AttemptDropped          one attempt is no longer wanted; nothing is reported
    ├── ArchiveError
    │   ├── BadArchive          hostile, broken, or not what its MD5 promised
    │   │   └── ArchiveLocked   nobody here has the password that opens it
    │   └── DiskFull            no room for it
    ├── PeerError               a peer gave no piece of an archive: another peer is asked
    │   ├── PeerBusy            503: it sends as much as it can
    │   ├── PeerLacksPiece      404, 416: it does not have what we thought
    │   └── PeerUnusable        silent, too slow, gone, or it sent wrong bytes
    ├── BadOrder                the order cannot be carried out by anybody
    └── WorkDirTaken            another worker uses this work folder
"""

from __future__ import annotations

from sheepfold.contract.api_messages import FailureKind, FailureReport


class NodeError(Exception):
    """Something went wrong on this node."""


class CoordinatorError(NodeError):
    """The coordinator did not do what was asked, or could not be asked."""


class CoordinatorUnreachable(CoordinatorError):
    """The coordinator gave no usable answer."""

    def __init__(self, call: str, reason: str) -> None:
        self.call, self.reason = call, reason
        super().__init__(f"the coordinator gave no usable answer to {call}: {reason}")


class TokenRefused(CoordinatorError):
    """The coordinator does not accept this farm token."""

    def __init__(self) -> None:
        super().__init__("the coordinator does not accept this farm token")


class StaleLease(CoordinatorError):
    """This attempt is no longer ours."""

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail or "this attempt is no longer ours")


class FrameRejected(CoordinatorError):
    """The coordinator looked at the picture and does not want it."""

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail or "the picture was not accepted")


class ArchiveMissing(CoordinatorError):
    """The coordinator does not hold this archive."""

    def __init__(self, md5: str) -> None:
        self.md5 = md5
        super().__init__(f"the coordinator does not hold archive {md5}")


class CoordinatorRefused(CoordinatorError):
    """A definite no that waiting can't mend."""

    def __init__(self, call: str, status: int, detail: str = "") -> None:
        self.call, self.status, self.detail = call, status, detail
        super().__init__(f"the coordinator answered {call} with {status}" + (f": {detail}" if detail else ""))


class AttemptFailed(NodeError):
    """One attempt gives no picture; ``report`` is what the coordinator is told."""

    def __init__(self, report: FailureReport) -> None:
        self.report = report
        super().__init__(f"{report.kind.value}: {report.reason}")

    @classmethod
    def because(cls, kind: FailureKind, reason: str) -> AttemptFailed:
        """A failure that has no log: nothing was rendered."""
        return cls(FailureReport(kind=kind, reason=reason))


class AttemptDropped(NodeError):
    """One attempt is no longer wanted; nothing is reported."""


class ArchiveError(NodeError):
    """An archive cannot be used on this node."""


class BadArchive(ArchiveError):
    """The archive is hostile, broken, or not what its MD5 promised."""


class ArchiveLocked(BadArchive):
    """A zip wants a password, and what the server gave is none that opens it."""

    def __init__(
        self, reason: str = "the scene archive is locked and the password the server gave does not open it"
    ) -> None:
        super().__init__(reason)


class DiskFull(ArchiveError):
    """There is no space on the disk for the archive."""


class PeerError(NodeError):
    """A peer gave no piece of an archive; another peer is asked."""


class PeerBusy(PeerError):
    """The peer sends as much as it can right now."""


class PeerLacksPiece(PeerError):
    """The peer does not have what was asked for."""


class PeerUnusable(PeerError):
    """The peer is silent, too slow or gone, or it sent wrong bytes."""


class BadOrder(NodeError):
    """The order cannot be carried out, here or anywhere."""


class WorkDirTaken(NodeError):
    """Another worker uses this work folder."""
