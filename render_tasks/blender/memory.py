"""How much memory a renderer holds, its whole process tree counted.

In a sandbox that is every process of the renderer: what loses its parent in there stays below the sandbox's own.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Of ``/proc/<pid>/status``: what a process held at most, and what it holds now.
_STATUS = re.compile(r"^Vm(HWM|RSS):\s+(\d+) kB", re.M | re.ASCII)
#: An exact count of a Blender takes some thousandths of a second.
EXACT_WITHIN_S = 1.0
#: Linux kernels list the children of each thread, unless they were made without.
_LISTS_CHILDREN = Path("/proc/self/task", str(os.getpid()), "children").exists()
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
    return _sum_of(tree_of(pid))


def _sum_of(pids: Sequence[int]) -> TreeMemory:
    each = [_of(pid) for pid in pids]
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


def take_peak(pid: int) -> TreeMemory:
    """What a process and its descendants hold and held; from here on a new peak is counted.

    Linux; elsewhere a peak is that of the process's whole life.
    """
    pids = tree_of(pid)
    held = _sum_of(pids)
    for member in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{member}/clear_refs").write_text("5")
    return held


def tree_of(pid: int) -> list[int]:
    """A process and its descendants; empty when it is gone."""
    if _LISTS_CHILDREN:
        return _listed_tree(pid)
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.Error:
        return []


def _listed_tree(pid: int) -> list[int]:
    """As the kernel lists children, thread by thread: other processes of the PC are not looked at."""
    found = [pid] if Path(f"/proc/{pid}").is_dir() else []
    for parent in found:  # it grows meanwhile
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                with contextlib.suppress(OSError):
                    found += map(int, (thread / "children").read_text().split())
    return found


def _of(pid: int) -> TreeMemory:
    try:
        if sys.platform == "linux":
            text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
            found = {name: int(kilobytes) for name, kilobytes in _STATUS.findall(text)}
            return TreeMemory(peak_kb=found.get("HWM", 0), now_kb=found.get("RSS", 0))
        memory = psutil.Process(pid).memory_info()
        return TreeMemory(peak_kb=getattr(memory, "peak_wset", memory.rss) // 1024, now_kb=memory.rss // 1024)
    except (psutil.Error, OSError):
        return TreeMemory()


def _exact_kb(pid: int) -> int | None:
    """What a tree holds, pages that several share counted once; ``None``: not known within :data:`EXACT_WITHIN_S`.

    The system waits for processes that fork at this moment, which many that fork can draw out.
    """
    found: queue.SimpleQueue[int] = queue.SimpleQueue()

    def count() -> None:
        found.put(sum(_share_kb(member) for member in tree_of(pid)))

    threading.Thread(target=count, name="exact memory", daemon=True).start()
    try:
        return found.get(timeout=EXACT_WITHIN_S)
    except queue.Empty:
        return None


def _share_kb(pid: int) -> int:
    """What it holds alone, and its share of what it holds with others."""
    try:
        found = _SHARED_OUT.search(Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8", "replace"))
    except OSError:
        found = None
    return int(found.group(1)) if found else _of(pid).now_kb


def _gb(kilobytes: int) -> str:
    return f"{kilobytes / 1024**2:.3g}"
