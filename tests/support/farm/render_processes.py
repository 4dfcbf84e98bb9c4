"""Processes of renders on this machine, and how long they live on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

#: Set in the environment of every renderer; see render_tasks/blender/orphan_guard.py.
MARK = "SHEEPFOLD_RENDER_MARK"


def marked_processes() -> Iterator[tuple[int, str]]:
    """Every living process that belongs to a render, with its environment as text."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_bytes()
            if MARK.encode() in environment and "Z" not in (entry / "stat").read_text().rpartition(")")[2].split()[0]:
                yield int(entry.name), environment.decode("utf-8", "replace")


def seconds_until_gone(pids: list[int], within_s: float) -> float:
    """How long it takes until none of these processes is left."""
    began = time.monotonic()

    def gone() -> bool:
        return not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]

    while time.monotonic() < began + within_s:
        with contextlib.suppress(psutil.NoSuchProcess):
            if gone():
                return time.monotonic() - began
        time.sleep(0.01)
    raise AssertionError(f"processes {pids} still live after {within_s} s")


def measured(what: str, seconds: float) -> None:
    """A figure for ``docs/explanation/reliability.md``: ``pytest -rP`` shows it."""
    print(f"measured: {what}: {seconds:.2f}")
