"""Why the coordinator cannot see its nodes."""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class BrokerUnreachable(SheepfoldError):
    """Redis does not answer, or not usefully."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"Redis cannot be used: {reason}")
