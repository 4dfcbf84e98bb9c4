"""The `sheepfold` command, run inside the test's process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from unittest import mock

import pytest

from sheepfold.cli import main


@dataclass(frozen=True, kw_only=True)
class EndedCommand:
    """What a command printed, and how it ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """For messages: stdout, then stderr."""
        return self.stdout + self.stderr


def run_command(arguments: Sequence[object], environment: Mapping[str, str | None] | None = None) -> EndedCommand:
    """``sheepfold`` with these arguments; ``None`` in ``environment`` takes a variable away."""
    changes = environment or {}
    removed = [name for name, value in changes.items() if value is None]
    stdout, stderr = StringIO(), StringIO()
    with mock.patch.dict(os.environ, {name: value for name, value in changes.items() if value is not None}):
        for name in removed:
            os.environ.pop(name, None)
        with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
    return EndedCommand(exit_code=int(ended.value.code or 0), stdout=stdout.getvalue(), stderr=stderr.getvalue())
