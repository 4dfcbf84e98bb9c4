"""Why the LAN API answers a node with a refusal before the request reaches the part it is for."""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class RequestRefused(SheepfoldError):
    """The request is none of ours, or damaged. ``status`` is the HTTP status that tells so."""

    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail
        super().__init__(detail)
