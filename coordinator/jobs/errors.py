"""Why what an operator asks of a job cannot be done."""

from __future__ import annotations

from collections.abc import Sequence

from sheepfold.errors import ExitCode, SheepfoldError

#: Of the jobs there are, a person is told so many.
TOLD_JOBS = 12


class UnknownJob(SheepfoldError):
    """There is no job of this number or name; the text says which there are."""

    exit_code = ExitCode.WRONG_SETTING

    def __init__(self, asked: str, jobs: Sequence[object], what: str = "jobs there are") -> None:
        """``jobs`` have texts that a person knows them by; ``what`` says which jobs they are."""
        self.asked, self.jobs = asked[:80], tuple(map(str, jobs))
        names = ", ".join(self.jobs[:TOLD_JOBS]) + (" …" if len(jobs) > TOLD_JOBS else "")
        super().__init__(f"there is no job {self.asked!r} here; {what}: {names or 'none'}")
