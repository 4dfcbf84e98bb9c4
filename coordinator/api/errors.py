"""Why the LAN API answers a node with a refusal before the request reaches the part it is for."""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class RequestRefused(SheepfoldError):
    """The request is none of ours, or damaged. ``status`` is the HTTP status that tells so."""

    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail
        super().__init__(detail)


class TooManyGuesses(SheepfoldError):
    """Too many wrong tokens came from this address. ``wait_s``: seconds until the next one is looked at."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(
            f"too many wrong farm tokens came from this address; the next one is looked at in {max(1, round(wait_s))} s"
        )
