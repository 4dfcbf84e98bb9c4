"""What can go wrong on a PC of the farm, split by whose fault it is.

::

    NodeError
    ├── CoordinatorError            the coordinator's side of the LAN
    │   ├── CoordinatorUnreachable  no usable answer: ask again later
    │   │   └── CoordinatorFailed   500: it failed over this very call, and may fail over it again
    │   ├── FarmChanged             it is another farm's than the one this PC belongs to
    │   ├── TokenRefused            401: the farm token is not the coordinator's
    │   ├── StaleLease              409: this attempt is no longer ours, drop it
    │   ├── FrameRejected           422: the coordinator read the picture and does not want it
    │   ├── ArchiveMissing          404: the coordinator does not hold this archive
    │   └── CoordinatorRefused      any other definite no
    ├── AttemptFailed               one attempt gives no picture; carries the report for the coordinator
    ├── AttemptDropped              one attempt is no longer wanted; nothing is reported
    ├── FrameFailed                 what Celery and Flower see of an AttemptFailed
    ├── WarmBlenderError            an open Blender is of no use for this frame: one of its own may be
    │   ├── WarmFailed              ... it gave no picture
    │   └── NotReusable             ... it must not be used for this scene
    ├── ArchiveError
    │   ├── BadArchive              hostile, broken, or not what its MD5 promised
    │   │   └── ArchiveLocked       nobody here has the password that opens it
    │   └── CacheDiskFull           no space for it
    ├── PeerError                   one peer gave no piece of an archive: another one is asked
    │   ├── PeerBusy                503: it serves as many as it can
    │   ├── PeerLacksPiece          404, 416: it does not have what we thought
    │   └── PeerUnusable            silent, too slow, gone, or it sent wrong bytes
    ├── UnsafeFile                  what lies there is no plain file, and is not opened
    ├── BadOrder                    the order cannot be carried out by anybody
    ├── NoSandbox                   nothing here keeps renderers in, and the settings ask for it
    ├── RunsAsRoot                  a worker that was not told that it may
    ├── CopiedMembership            the certificate is another PC's
    └── WorkDirUnusable             the work folder cannot be used: a setting is wrong
        └── WorkDirTaken            ... another worker has it

``render_tasks.tasks.FrameDropped`` is none of them: it is Celery's ``Ignore``, which Celery's worker asks for by type.
"""

from __future__ import annotations

from pathlib import Path

from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.errors import ExitCode, SheepfoldError


class NodeError(SheepfoldError):
    """Something went wrong on this node."""


class CoordinatorError(NodeError):
    """The coordinator did not do what was asked."""


class CoordinatorUnreachable(CoordinatorError):
    """The coordinator gave no usable answer."""

    def __init__(self, call: str, reason: str) -> None:
        self.call, self.reason = call, reason
        super().__init__(f"the coordinator gave no usable answer to {call}: {reason}")


class CoordinatorFailed(CoordinatorUnreachable):
    """The coordinator failed over this very call."""

    def __init__(self, call: str) -> None:
        super().__init__(call, "status 500, the coordinator's log has the reason")


class FarmChanged(CoordinatorError):
    """The coordinator is another farm's than the one this PC belongs to."""

    exit_code = ExitCode.REFUSED

    def __init__(self, pinned: str, told: str) -> None:
        """Both are labels of farms (:attr:`sheepfold.contract.signing.FarmKey.label`)."""
        self.pinned, self.told = pinned, told
        super().__init__(
            f"this PC belongs to farm {pinned}, and the coordinator says that it is farm {told}: it lost its ledger, "
            "or it is not the one you mean (SHEEPFOLD_COORDINATOR_URL); no order of it is followed. "
            "Where the farm was set up anew: `sheepfold forget-farm` on this PC, then start the worker again"
        )


class TokenRefused(CoordinatorError):
    """SHEEPFOLD_FARM_TOKEN: the coordinator does not accept this farm token."""

    exit_code = ExitCode.REFUSED


class StaleLease(CoordinatorError):
    """This attempt is no longer ours."""


class FrameRejected(CoordinatorError):
    """The coordinator read the picture and does not want it."""


class ArchiveMissing(CoordinatorError):
    """The coordinator does not hold this archive."""

    def __init__(self, md5: str) -> None:
        self.md5 = md5
        super().__init__(f"the coordinator does not hold archive {md5}")


class CoordinatorRefused(CoordinatorError):
    """The coordinator refuses, and waiting can't mend it."""

    exit_code = ExitCode.REFUSED

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


class FrameFailed(NodeError):
    """What Celery and Flower see of a failed attempt: its reason in one line."""


class WarmBlenderError(NodeError):
    """An open Blender is of no use for this frame."""


class WarmFailed(WarmBlenderError):
    """No picture came of it; a Blender of the frame's own may do better."""

    def __init__(self, reason: str, log_text: str) -> None:
        self.reason, self.log_text = reason, log_text
        super().__init__(reason)


class NotReusable(WarmBlenderError):
    """The driver says that this scene must not be rendered in an open Blender."""


class ArchiveError(NodeError):
    """An archive cannot be used on this PC."""


class BadArchive(ArchiveError):
    """The archive is hostile, broken, or not what its MD5 promised."""


class ArchiveLocked(BadArchive):
    """The scene archive is locked and the password the server gave does not open it."""


class CacheDiskFull(ArchiveError):
    """There is no space for the archive."""


class PeerError(NodeError):
    """One peer gave no piece of an archive."""


class PeerBusy(PeerError):
    """The peer serves as many requests as it can; it is asked again soon."""


class PeerLacksPiece(PeerError):
    """The peer does not have what was asked for."""


class PeerUnusable(PeerError):
    """The peer is silent, too slow or gone, or it sent wrong bytes."""


class UnsafeFile(NodeError, OSError):
    """What lies there is no plain file of bounded size: a link, a pipe, a second name, or the like."""


class BadOrder(NodeError):
    """The order cannot be carried out, here or anywhere."""


class NoSandbox(NodeError):
    """Nothing on this PC keeps a renderer in."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, reasons: str) -> None:
        super().__init__(
            f"SHEEPFOLD_SANDBOX: nothing on this PC keeps renderers from its files and its network: {reasons}; "
            "mend one of them, or let SHEEPFOLD_SANDBOX be preferred: frames are then rendered without"
        )


class RunsAsRoot(NodeError):
    """SHEEPFOLD_ALLOW_ROOT: a worker does not run as root: start it as a user of its own, or set this to 1."""

    exit_code = ExitCode.WRONG_SETTING


class CopiedMembership(NodeError):
    """The work folder's certificate is another PC's."""

    exit_code = ExitCode.REFUSED

    def __init__(self, work_dir: Path) -> None:
        super().__init__(
            f"SHEEPFOLD_WORK_DIR: {work_dir} is a copy of another PC's, and so is the certificate in it: remove the "
            "folder, and join by an invitation of this PC's own"
        )


class WorkDirUnusable(NodeError):
    """SHEEPFOLD_WORK_DIR: the folder cannot be used."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, reason: str) -> None:
        super().__init__(f"SHEEPFOLD_WORK_DIR: {reason}")


class WorkDirTaken(WorkDirUnusable):
    """Another worker uses this work folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"another worker uses {folder}: give each worker its own")
