"""A renderer must not outlive its worker, not even one that was killed with -9.

The worker starts one small process and keeps the writing end of a pipe to it. The pipe tells it which renders are
alive; when the pipe closes, the worker is gone, whatever the reason, and the guard kills what is left. Every renderer
carries a random *mark* in its environment, which its children inherit: so even a grandchild that made itself a daemon
is found. One line per message::

    + <mark>            a render is about to start
    = <mark> <pid>      ... and this is its process (and process group)
    - <mark>            it is over, and its tree is gone

The guard runs as a script with nothing but the standard library, so that it starts in a few milliseconds and
stays small. POSIX only: on Windows :meth:`OrphanGuard.start` says so, and a worker that is killed hard there leaves its
renderers to finish their frame.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

#: In every renderer's environment.
MARK_VARIABLE = "SHEEPFOLD_RENDER_MARK"
#: What a Python and ``ps`` may need to be found; nothing of the farm's.
_GUARD_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
#: Rounds of looking and killing: a process that forks while it is being killed is found in the next one.
_ROUNDS = 10
_BETWEEN_ROUNDS_S = 0.03


class OrphanGuard:
    """Starts the guard process and tells it which renders are alive. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Starts the guard; ``False`` where this system has none."""
        if os.name != "posix":
            return False
        with self._lock:
            self._start()
        return True

    def about_to_start(self, mark: str) -> None:
        """Before the renderer's process exists, so that there is no moment in which nobody watches it."""
        with self._lock:
            self._alive[mark] = 0
            self._tell(f"+ {mark}")

    def started(self, mark: str, pid: int) -> None:
        """From now on the guard knows the renderer's process id as well as its mark."""
        with self._lock:
            self._alive[mark] = pid
            self._tell(f"= {mark} {pid}")

    def over(self, mark: str) -> None:
        """The renderer and its children are gone."""
        with self._lock:
            self._alive.pop(mark, None)
            self._tell(f"- {mark}")

    def stop(self) -> None:
        """Ends the guard; whatever is still alive is killed by it first."""
        with self._lock:
            process, self._process = self._process, None
        if process and process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)

    def _start(self) -> None:
        # -I -S: no site packages, no user files, nothing of the worker's environment changes what it runs.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _GUARD_ENVIRONMENT if name in os.environ},
            cwd="/",
            start_new_session=True,  # neither Ctrl+C nor a kill of the worker's group reaches it
        )

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except OSError:  # somebody killed the guard: a new one is told everything
            self._process.wait()
            self._start()
            for mark, pid in self._alive.items():
                self._tell(f"+ {mark}")
                if pid:
                    self._tell(f"= {mark} {pid}")


def kill_marked(marks: dict[str, int]) -> int:
    """Kills every process that carries one of these marks or descends from their pids; returns how many.

    POSIX. ``marks`` gives each mark its renderer's pid, 0 where none is known. The renderers themselves are stopped
    first and killed last: under Landlock they are the launchers, and what loses its parent becomes a launcher's child.
    Everything is stopped before it is killed, so that what forks without end runs out of what can fork.
    """
    needles = [f"{MARK_VARIABLE}={mark}\0".encode() for mark in marks]
    roots = {pid for pid in marks.values() if pid > 0}
    killed: set[int] = set()
    _signal(roots, signal.SIGSTOP)
    for _ in range(_ROUNDS):
        parents = _parents()
        own = {os.getpid(), *roots}
        # Marks last: whoever reads the environment of a process that forks waits for it, among many for a long time.
        found = (_descendants(roots | killed, parents) - own) or (_marked(needles, parents) - own)
        if not found:
            break
        _signal(found, signal.SIGSTOP)
        _signal(found, signal.SIGKILL)
        killed |= found
        time.sleep(_BETWEEN_ROUNDS_S)
    left = roots & _parents().keys()
    for pid in left:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    _signal(left, signal.SIGKILL)
    return len(killed | left)


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _marked(needles: list[bytes], processes: Iterable[int]) -> set[int]:
    """Those whose environment holds a mark (Linux; elsewhere pids and groups must do)."""
    found: set[int] = set()
    for pid in processes:
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
            if any(needle in environment for needle in needles):
                found.add(pid)
    return found


def _descendants(roots: set[int], parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    fresh = roots
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh and pid not in found}
        found |= fresh
    return found


def _parents() -> dict[int, int]:
    """Every process that is not a zombie, with its parent."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
    return parents or _parents_by_ps()


def _parents_by_ps() -> dict[int, int]:
    """The same where there is no /proc (macOS)."""
    done = subprocess.run(["ps", "-Ao", "pid=,ppid=,state="], capture_output=True, check=False)
    rows = [row.split() for row in done.stdout.decode("ascii", "replace").splitlines()]
    return {int(row[0]): int(row[1]) for row in rows if len(row) == 3 and not row[2].startswith("Z")}


def main() -> None:
    """The guard process: read until the pipe closes, then kill what is still alive."""
    for unwanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(unwanted, signal.SIG_IGN)
    alive: dict[str, int] = {}
    for line in sys.stdin:
        words = line.split()
        if words[0] == "+":
            alive[words[1]] = 0
        elif words[0] == "=":
            alive[words[1]] = int(words[2])
        else:
            alive.pop(words[1], None)
    if alive:
        kill_marked(alive)


if __name__ == "__main__":
    main()
