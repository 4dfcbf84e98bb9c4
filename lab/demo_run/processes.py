"""The processes of a lab run: started with their own environment and log file, watched, and stopped without leftovers.

Each process leads a session of its own, so that Ctrl+C in the terminal reaches only us, and we stop them in order. If
we are killed outright, Linux sends them SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import RunFailed

#: All processes together; every command promises to stop within 10 s of SIGTERM.
STOP_WITHIN_S = 9.0
_LAST_LINES = 15
_LAST_BYTES = 16 * 1024
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class StartedProcess:
    """A ``sheepfold`` command that runs beside us, and the file it writes its output to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Processes:
    """All of them, in the order they were started; they are stopped in the opposite order."""

    def __init__(self, folder: Path, secrets: Sequence[str]) -> None:
        self._folder = folder
        self._secrets = secrets
        self._started: list[StartedProcess] = []

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> StartedProcess:
        """Start ``sheepfold`` with these arguments. Nothing of our own ``SHEEPFOLD_*`` reaches it but what is given."""
        log = self._folder / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SHEEPFOLD_")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*sheepfold_command(), *arguments],
                env={**inherited, **environment, "PYTHONUNBUFFERED": "1"},
                # No sheepfold.toml of the user's working directory is read.
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        started = StartedProcess(name=name, process=process, log=log)
        self._started.append(started)
        return started

    def check(self) -> None:
        """All of them still run; raises :class:`RunFailed` with the last lines of the log of one that does not."""
        for started in self._started:
            code = started.process.poll()
            if code is not None:
                raise RunFailed(
                    f"{started.name} ended with exit code {code}; its log ends:\n{self._last_lines(started)}"
                )

    def wait_for(self, what: str, ready: Callable[[], bool], *, limit_s: float) -> None:
        """Until something is ready; raises :class:`RunFailed` when a process dies or the time is up."""
        until = time.monotonic() + limit_s
        while not ready():
            self.check()
            if time.monotonic() > until:
                raise RunFailed(f"{what} did not come up within {limit_s:.0f} s; the logs are in {self._folder}")
            time.sleep(0.1)

    def stop(self) -> None:
        """SIGTERM the last started first, and SIGKILL to whatever is left of each one's group."""
        until = time.monotonic() + STOP_WITHIN_S
        groups = [self._named("worker"), self._named("coordinator"), self._started]
        for index, group in enumerate(groups):
            # What is not used by one group is left for the next.
            share = (until - time.monotonic()) / (len(groups) - index)
            _stop(group, time.monotonic() + max(0.5, share))
        self._started.clear()

    def _named(self, start: str) -> list[StartedProcess]:
        return [started for started in self._started if started.name.startswith(start)]

    def _last_lines(self, started: StartedProcess) -> str:
        with started.log.open("rb") as file:
            file.seek(max(0, started.log.stat().st_size - _LAST_BYTES))
            text = file.read().decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return "\n".join(f"  {line}" for line in text.splitlines()[-_LAST_LINES:]) or "  (nothing)"


def sheepfold_command() -> list[str]:
    """The ``sheepfold`` beside this Python, so that children run this same installation."""
    script = Path(sys.executable).with_name("sheepfold")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "sheepfold.cli"]


def _stop(processes: list[StartedProcess], until: float) -> None:
    for started in processes:
        if started.process.poll() is None:
            started.process.terminate()
    for started in processes:
        try:
            started.process.wait(max(0.05, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            started.process.kill()
        _kill_group(started.process)
        started.process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # The group's number is the leader's, and stays taken as long as anyone is left in it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    # Loaded before the fork: between fork and exec nothing may be imported or allocated.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
