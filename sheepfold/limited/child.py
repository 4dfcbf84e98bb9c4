"""The child's side: runs one module's tasks for its parent, one after the other, until the parent is gone.

Started with nothing of the parent's environment. It imports the module first and limits itself afterwards, so that the
limit is what a task may use. A parent that ends, however it ends, ends its child: the pipe does.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sheepfold.errors import LargeFile, SheepfoldError

from .errors import PipeEnded
from .frames import receive, send

try:
    import resource
except ImportError:  # Windows
    resource = None

#: Memory of the whole process, resident.
MEMORY_BYTES = 256 * 1024 * 1024
#: A task writes no larger file: a thumbnail.
FILE_BYTES = 16 * 1024 * 1024
#: A child for large work leaves the processor to everything else.
NICENESS = 10

Task = Callable[..., Any]


def main(module: str, *, is_large: bool) -> None:
    """Serves at the standard input and output; ends with the pipe."""
    requests, answers = os.dup(0), os.dup(1)
    _leave_standard_files()
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which ends us when it has finished
        signal.signal(number, signal.SIG_IGN)
    tasks: Mapping[str, Task] = importlib.import_module(module).TASKS
    _limit(is_large=is_large)
    try:
        send(answers, "ready")
        while True:
            task, arguments = receive(requests)
            send(answers, _outcome(tasks[task], arguments, is_large=is_large))
    except PipeEnded:
        return


def _outcome(task: Task, arguments: list[Any], *, is_large: bool) -> dict[str, Any]:
    try:
        return {"result": task(*arguments, is_large=is_large)}
    except LargeFile:
        return {"is_large": True}
    except SheepfoldError as error:
        return {"refused": type(error).__name__, "reason": getattr(error, "reason", str(error))}
    except MemoryError:
        return {"refused": "MemoryError", "reason": f"it needs more than {MEMORY_BYTES // 1024**2} MB of memory"}
    # A decoder raises whatever it likes on what strangers made; some errors are no text themselves.
    except Exception as error:
        return {"refused": type(error).__name__, "reason": f"its decoder fails ({type(error).__name__})"}


def _leave_standard_files() -> None:
    """A library that prints must not speak to the parent."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.close(nothing)


def _limit(*, is_large: bool) -> None:
    if is_large and hasattr(os, "nice"):
        os.nice(NICENESS)
    if resource is None:
        return
    limits = {resource.RLIMIT_FSIZE: FILE_BYTES, resource.RLIMIT_CORE: 0}
    pages = _statm()
    if pages:  # address space is what can be limited; of it only what becomes resident counts
        size, resident = pages
        limits[resource.RLIMIT_AS] = size + max(0, MEMORY_BYTES - resident)
    for which, limit in limits.items():
        _soft, hard = resource.getrlimit(which)
        wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(which, (wanted, wanted))


def _statm() -> tuple[int, int] | None:
    """Address space and resident memory of this process, bytes; ``None`` where the system does not say."""
    try:
        size, resident = Path("/proc/self/statm").read_text().split()[:2]
    except OSError:
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return int(size) * page, int(resident) * page


if __name__ == "__main__":
    main(sys.argv[1], is_large=sys.argv[2] == "large")
