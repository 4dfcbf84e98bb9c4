"""Why the LAN API answers with a refusal before the request reaches the part it is for."""

from __future__ import annotations

from collections.abc import Mapping

from sheepfold.errors import SheepfoldError


class RequestRefused(SheepfoldError):
    """The request is none of ours, damaged, or not its caller's to make. ``status`` is the HTTP status for it."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.detail, self.headers = status, detail, dict(headers or {})
        super().__init__(detail)
