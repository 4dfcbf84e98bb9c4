"""Groups that count the tasks of a renderer of root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from render_tasks.blender.sandbox.task_groups import (
    find_groups,
    joining,
    make_group,
    remove_group,
    remove_old_groups,
)
from tests.conftest import missing

#: Starts five children and says how many were started.
_FORKS = """
import os, time
started = 0
for _ in range(5):
    try:
        if os.fork() == 0:
            time.sleep(1)
            os._exit(0)
        started += 1
    except OSError as error:
        print(error.strerror)
        break
print(started)
"""

#: Nobody else's on this machine.
MARK = f"test-{os.getpid()}"


@pytest.fixture
def groups_folder() -> Iterator[Path]:
    found = find_groups()
    if found is None:
        missing("no control groups to make: not root, or a container")
    assert found
    yield found
    remove_group(found, MARK)


def test_a_program_in_a_group_starts_no_more_than_it_may(groups_folder: Path) -> None:
    group = make_group(groups_folder, MARK, 3)
    argv = [*joining(group), sys.executable, "-c", _FORKS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.stdout.split("\n")[:2] == ["Resource temporarily unavailable", "2"]


def test_an_empty_group_goes_and_so_does_what_a_killed_worker_left(groups_folder: Path) -> None:
    make_group(groups_folder, MARK, 3)
    remove_group(groups_folder, MARK)
    assert not list(groups_folder.glob(f"sheepfold-{MARK}"))
    make_group(groups_folder, MARK, 3)
    remove_old_groups(groups_folder)
    assert not list(groups_folder.glob(f"sheepfold-{MARK}"))


def test_whoever_is_not_root_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000, raising=False)
    assert find_groups() is None
