"""Why a lease cannot be ordered from any node."""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class OrderTooLarge(SheepfoldError):
    """The server's script makes an order that no queue takes."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"the server's script makes an order of more than {limit_bytes} bytes")
