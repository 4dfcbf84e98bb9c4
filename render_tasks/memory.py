"""How much memory a renderer holds, its whole process tree counted."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

import psutil


def tree_memory_kb(pid: int) -> int:
    """What a process and its descendants hold now, or held at most where the system remembers it, kB."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(_peak_kb(one) for one in tree)


def _peak_kb(process: psutil.Process) -> int:
    try:
        if sys.platform == "linux":
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text("utf-8", "replace"))
            return int(found.group(1)) if found else 0
        memory = process.memory_info()
        return getattr(memory, "peak_wset", memory.rss) // 1024
    except (psutil.Error, OSError):
        return 0


def resident_kb(pid: int) -> int:
    """What a process holds now, kB; 0 when it is gone."""
    try:
        return psutil.Process(pid).memory_info().rss // 1024
    except psutil.Error:
        return 0


def forget_peaks(pid: int) -> None:
    """From here on a new peak is counted. Linux; elsewhere a peak is that of the process's whole life."""
    try:
        root = psutil.Process(pid)
        for one in (root, *root.children(recursive=True)):
            with contextlib.suppress(OSError):
                Path(f"/proc/{one.pid}/clear_refs").write_text("5")
    except psutil.Error:
        return
