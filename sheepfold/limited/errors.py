"""What can go wrong with work in a limited child.

::

    LimitedError
    ├── TaskRefused        the task ended with an error, or ended its child
    ├── ChildUnavailable   no child can be had now; nothing is known of the file
    ├── PipeEnded          the other side is gone, or says what it never says
    └── PipeSilent         nothing came in time
"""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class LimitedError(SheepfoldError):
    """Work in a limited process failed."""


class TaskRefused(LimitedError):
    """The task ended with an error. ``kind`` is its class, or ``Died`` and ``TooSlow`` for the child's own end."""

    def __init__(self, kind: str, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(reason)


class ChildUnavailable(LimitedError):
    """No process for untrusted files can be started now, or all are busy with large ones: try again later."""


class PipeEnded(LimitedError):
    """The process at the other end of a pipe is gone."""


class PipeSilent(LimitedError):
    """The process at the other end of a pipe said nothing in time."""
