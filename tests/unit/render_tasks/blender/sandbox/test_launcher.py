"""What the launcher of a sandbox under Landlock knows of its user's tasks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")

#: Says what it counts, with nothing else of its user in sight; then again beside 60 more.
_COUNTS = """
import os, subprocess, sys
from render_tasks.blender.sandbox import launcher
os.setuid(int(sys.argv[2]))
print(launcher._tasks_as_counted(int(sys.argv[1])))
others = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(60)]
print(launcher._tasks_as_counted(int(sys.argv[1])))
print(launcher._tasks_as_counted(launcher._tasks_of(int(sys.argv[2]))))
for process in others:
    process.communicate()
"""
#: A user without any program.
STRANGER = 54322


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_tasks_that_nobody_can_see_are_counted_too() -> None:
    """Given others of the same user in another container, then a limit above what is seen alone would be too low."""
    told = subprocess.run(
        [sys.executable, "-c", _COUNTS, "1", str(STRANGER)], capture_output=True, text=True, check=True
    )
    alone, beside_others, all_seen = map(int, told.stdout.split())
    assert alone == 1
    assert 61 <= beside_others <= 61 + 16
    assert all_seen == 61
