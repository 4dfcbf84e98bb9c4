"""How much memory a renderer holds, its whole process tree counted.

In a sandbox that is every process of the renderer: what loses its parent in there stays below the sandbox's own.
"""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Of ``/proc/<pid>/status``: what a process held at most, and what it holds now.
_STATUS = re.compile(r"^Vm(HWM|RSS):\s+(\d+) kB", re.M | re.ASCII)
#: An exact count of a Blender takes some thousandths of a second.
EXACT_WITHIN_S = 1.0
_SHARED_OUT = re.compile(r"^Pss:\s+(\d+) kB", re.M | re.ASCII)


@dataclass(frozen=True, kw_only=True)
class TreeMemory:
    """Memory of a process and its descendants, kB."""

    #: At most so far, where the system remembers it; else now.
    peak_kb: int = 0
    now_kb: int = 0
    #: How many there are.
    processes: int = 0


def measure(pid: int) -> TreeMemory:
    """What a process and its descendants hold and held."""
    each = [_of(process) for process in tree_of(pid)]
    return TreeMemory(
        peak_kb=sum(held.peak_kb for held in each), now_kb=sum(held.now_kb for held in each), processes=len(each)
    )


def over_limit(pid: int, held: TreeMemory, limit_kb: int | None) -> str:
    """Why a render must end, for a person; empty while it holds no more than it may."""
    if limit_kb is None or held.now_kb <= limit_kb:
        return ""
    exactly = held.now_kb
    if sys.platform == "linux":
        # A fork shares its pages with its parent and each counts them. The exact count takes long: it is made only now,
        # and again when it is too high: of a process that forks meanwhile it has the whole, and of its child a half.
        for _ in range(2):
            if (exactly := _exact_kb(pid) or held.now_kb) <= limit_kb:
                break
    if exactly <= limit_kb:
        return ""
    return f"stopped: it held {_gb(exactly)} GB, and a render on this PC may hold {_gb(limit_kb)} GB"


def resident_kb(pid: int) -> int:
    """What a process and its descendants hold now, kB; 0 when they are gone."""
    return measure(pid).now_kb


def take_peak_kb(pid: int) -> int:
    """What the tree held at most, kB; from here on a new peak is counted.

    Linux; elsewhere a peak is that of the process's whole life.
    """
    total = 0
    for process in tree_of(pid):
        total += _of(process).peak_kb
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return total


def tree_of(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _of(process: psutil.Process) -> TreeMemory:
    try:
        if sys.platform == "linux":
            text = Path(f"/proc/{process.pid}/status").read_text("utf-8", "replace")
            found = {name: int(kilobytes) for name, kilobytes in _STATUS.findall(text)}
            return TreeMemory(peak_kb=found.get("HWM", 0), now_kb=found.get("RSS", 0))
        memory = process.memory_info()
        return TreeMemory(peak_kb=getattr(memory, "peak_wset", memory.rss) // 1024, now_kb=memory.rss // 1024)
    except (psutil.Error, OSError):
        return TreeMemory()


def _exact_kb(pid: int) -> int | None:
    """What a tree holds, pages that several share counted once; ``None``: not known within :data:`EXACT_WITHIN_S`.

    The system waits for processes that fork at this moment, which many that fork can draw out.
    """
    found: queue.SimpleQueue[int] = queue.SimpleQueue()

    def count() -> None:
        found.put(sum(_share_kb(process) for process in tree_of(pid)))

    threading.Thread(target=count, name="exact memory", daemon=True).start()
    try:
        return found.get(timeout=EXACT_WITHIN_S)
    except queue.Empty:
        return None


def _share_kb(process: psutil.Process) -> int:
    """What it holds alone, and its share of what it holds with others."""
    try:
        found = _SHARED_OUT.search(Path(f"/proc/{process.pid}/smaps_rollup").read_text("utf-8", "replace"))
    except OSError:
        found = None
    return int(found.group(1)) if found else _of(process).now_kb


def _gb(kilobytes: int) -> str:
    return f"{kilobytes / 1024**2:.3g}"
