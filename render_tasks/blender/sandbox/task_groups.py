"""The kernel's count of tasks for a renderer of root, which the limit of a user's processes does not bind.

A control group for each renderer, where this worker may make one: ``<groups>/sheepfold-<mark>``. It goes with its
renderer; what a worker that was killed left behind is empty and goes when the next one starts.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path

_NAME = "sheepfold-"
_MOUNT = Path("/sys/fs/cgroup")
#: Joins the group, then becomes the program. Arguments: the group's file, the program and its own.
_JOIN = 'echo $$ > "$0" && exec "$@"'


def find_groups() -> Path | None:
    """Where groups can be made that count tasks; ``None``: nowhere, or nobody needs them."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    return next((place for place in _places() if _can_make_in(place)), None)


def make_group(groups: Path, mark: str, tasks: int) -> Path:
    """The group of one renderer, for at most so many tasks. Raises OSError."""
    group = groups / f"{_NAME}{mark}"
    group.mkdir()
    (group / "pids.max").write_text(str(tasks))
    return group


def joining(group: Path) -> list[str]:
    """What stands before a command line that runs in a group."""
    return ["/bin/sh", "-c", _JOIN, str(group / "cgroup.procs")]


def remove_group(groups: Path, mark: str) -> None:
    """Takes an empty group away; one that is not empty stays."""
    with contextlib.suppress(OSError):
        (groups / f"{_NAME}{mark}").rmdir()


def remove_old_groups(groups: Path) -> None:
    """Takes away what earlier workers left; a group that is in use stays."""
    for group in groups.glob(f"{_NAME}*"):
        with contextlib.suppress(OSError):
            group.rmdir()


def _places() -> list[Path]:
    """Beside our own group: in one that has processes of its own the second version counts nothing."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "pids" in controllers.split(","):
            found.append(_MOUNT / "pids" / path.strip("/"))
        elif not controllers:
            found.append((_MOUNT / path.strip("/")).parent if path != "/" else _MOUNT)
    return found


def _can_make_in(place: Path) -> bool:
    probe = secrets.token_hex(4)
    try:
        make_group(place, probe, 1)
    except OSError:
        return False
    finally:
        remove_group(place, probe)
    return True
