"""The parent's side: a few children that are used again and again, and one at a time for what is large.

A child that dies or takes too long is ended and another one started for the next task. What killed it is told to the
caller as a refusal: the task is tried once more first, for a child may also be killed from outside.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

from .errors import ChildUnavailable, PipeEnded, PipeSilent, TaskRefused
from .frames import receive, send

#: A child has imported its libraries within this time, on a machine that is busy (seconds).
READY_WITHIN_S = 60.0
#: Large tasks that wait while one is under way; more would hold all of the caller's threads.
LARGE_WAITING = 3
#: What a child is told of the environment: where programs and texts of the system are, and to use one thread.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TMPDIR", "TEMP")
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('sheepfold.limited.child', run_name='__main__')"
)
_ROOT = Path(__file__).parents[2]


class _Child:
    """One process, started when it is needed first."""

    def __init__(self, module: str, *, is_large: bool) -> None:
        self._module, self._is_large = module, is_large
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, task: str, arguments: tuple[Any, ...], within_s: float) -> dict[str, Any]:
        """Raises :class:`ChildUnavailable`, ``PipeEnded`` or ``PipeSilent``; after the last two the child is gone."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            send(process.stdin.fileno(), (task, arguments))
            answer = receive(process.stdout.fileno(), within_s)
        except (PipeEnded, PipeSilent):
            self.end()
            raise
        if not isinstance(answer, dict):
            self.end()
            raise PipeEnded
        return cast("dict[str, Any]", answer)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.end()
        command = [sys.executable, "-I", "-c", _START, str(_ROOT), self._module, "large" if self._is_large else "small"]
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | _ONE_THREAD
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
                env=environment, cwd=_ROOT.anchor, start_new_session=True,
            )  # fmt: skip
            assert self._process.stdout is not None
            receive(self._process.stdout.fileno(), READY_WITHIN_S)
        except (OSError, PipeEnded, PipeSilent) as error:
            self.end()
            raise ChildUnavailable(f"no process for untrusted files can be started ({type(error).__name__})") from None
        return self._process

    def end(self) -> None:
        """Kills it; the next task starts another one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class LimitedProcesses:
    """Runs the tasks of a module (its ``TASKS``). Thread-safe; a thread waits for a child that is free."""

    def __init__(self, module: str, *, count: int, deadline_s: float, large_deadline_s: float) -> None:
        self._deadline_s, self._large_deadline_s = deadline_s, large_deadline_s
        self._module = module
        #: The one used last is used first; the others are started when two are needed at once.
        self._free: queue.LifoQueue[_Child] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(_Child(module, is_large=False))
        self._large = threading.Lock()
        self._may_wait = threading.Semaphore(LARGE_WAITING + 1)

    def call(self, task: str, *arguments: Any) -> Any:
        """What the task gives, as JSON has it. Raises :class:`TaskRefused` or :class:`ChildUnavailable`."""
        child = self._free.get()
        try:
            answer = _ask_twice(child, task, arguments, self._deadline_s)
        finally:
            self._free.put(child)
        if answer.get("is_large"):
            answer = self._call_large(task, arguments)
        if "refused" in answer:
            raise TaskRefused(str(answer["refused"]), str(answer.get("reason", "")))
        return answer.get("result")

    def _call_large(self, task: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if not self._may_wait.acquire(blocking=False):
            raise ChildUnavailable("too many large files are looked at already; this one is taken later")
        try:
            with self._large:
                child = _Child(self._module, is_large=True)
                try:
                    return _ask_twice(child, task, arguments, self._large_deadline_s)
                finally:
                    child.end()
        finally:
            self._may_wait.release()

    def close(self) -> None:
        """Ends the children that are free; those at work end with this process."""
        while not self._free.empty():
            self._free.get_nowait().end()


def _ask_twice(child: _Child, task: str, arguments: tuple[Any, ...], within_s: float) -> dict[str, Any]:
    for _ in range(2):
        try:
            return child.ask(task, arguments, within_s)
        except PipeSilent:
            return {"refused": "TooSlow", "reason": f"it takes longer than {within_s:.0f} s"}
        except PipeEnded:
            continue
    return {"refused": "Died", "reason": "it ends the process that looks at it"}
