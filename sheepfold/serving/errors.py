"""Why a server here does not look at a request now."""

from __future__ import annotations

from sheepfold.errors import SheepfoldError


class TooManyGuesses(SheepfoldError):
    """Too many wrong passwords or tokens came. ``wait_s``: seconds until the next one is looked at."""

    def __init__(self, of_what: str, wait_s: float) -> None:
        self.of_what, self.wait_s = of_what, wait_s
        super().__init__(f"too many wrong guesses of {of_what}; the next one is looked at in {self.retry_after} s")

    @property
    def retry_after(self) -> str:
        """For the header of that name: whole seconds."""
        return str(max(1, round(self.wait_s)))
