"""Runs one renderer: start, stream, measure, stop the whole tree, find the picture.

One scratch folder per attempt holds all it writes::

    out/frame_0340.png      the picture, named by Blender
    tmp/                    temporary files and the crash report
    config/ scripts/ ...    Blender's user folders: nothing of the PC's owner leaks in or out
    script.py server.py     what -P runs

The renderer has the lowest CPU priority and a session of its own, so that Ctrl+C in the worker's terminal does not
reach it. Its environment carries a random mark (see :mod:`render_tasks.guard`) and none of the farm's secrets. When
the attempt is over, for whatever reason, every process with the mark is gone before :func:`render` returns.

A stop is decided before anything is killed: the :class:`~render_tasks.switch.Switch` is thrown first, so the death that
follows is never taken for a crash.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from .command import expand, newest_picture
from .contract import FailureKind, FailureReport
from .environment import USER_FOLDERS, environment, renderer_binary
from .errors import AttemptDropped, AttemptFailed
from .failures import Remains, why
from .guard import Guard, kill_marked
from .hardware import usable_ram
from .memory import tree_memory_kb
from .output import Output
from .progress import Progress, read_line
from .script import our_script
from .switch import Switch

log = logging.getLogger(__name__)

PREFIX = "frame_"
#: How soon a stop or the renderer's end is noticed.
LOOK_EVERY_S = 0.1
#: Memory is sampled this often; Linux keeps each process's own peak between two looks.
MEASURE_EVERY_S = 0.5
#: The last output of a renderer that ended, unless a stray child holds the pipe open.
LAST_OUTPUT_S = 2


@dataclass(frozen=True, kw_only=True)
class Job:
    """All one render needs to know."""

    renderer: Path
    scene: Path
    command_line: str
    script: str
    frame: str
    update_method: str
    gpu: bool
    #: Threads the renderer may use; ``None``: as many as it finds.
    cores: int | None
    time_limit_s: float | None
    scratch: Path


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A picture, still in the scratch folder."""

    picture: Path
    #: Wall seconds from renderer start to exit.
    render_s: float
    #: Peak of Blender's own count and the process tree, kB.
    memory_kb: int


def render(job: Job, switch: Switch, guard: Guard, on_progress: Callable[[Progress], None]) -> Rendered:
    """Renders one frame.

    Raises AttemptFailed with the report, AttemptDropped when ``switch`` stopped it, BadOrder.
    """
    argv = _prepare(job)
    run = _Run(job, switch, guard, on_progress)
    run.to_its_end(argv)
    if switch.stopped():
        raise AttemptDropped(switch.reason)
    picture = newest_picture(job.scratch / "out", PREFIX, job.frame)
    if picture and not run.out_of_time:
        return Rendered(picture=picture, render_s=run.render_s, memory_kb=run.memory_kb)
    raise AttemptFailed(run.report())


def _prepare(job: Job) -> list[str]:
    if not job.scene.is_file():
        raise AttemptFailed.because(FailureKind.BAD_ARCHIVE, f"the scene archive holds no {job.scene.name}")
    binary = renderer_binary(job.renderer)
    if not binary.is_file():
        raise AttemptFailed.because(FailureKind.BAD_ARCHIVE, f"the renderer archive holds no {binary.name}")
    shutil.rmtree(job.scratch, ignore_errors=True)
    for name in ("out", "tmp", *USER_FOLDERS):
        (job.scratch / name).mkdir(parents=True)
    server_script = job.scratch / "server.py"
    server_script.write_text(job.script, "utf-8")
    script = job.scratch / "script.py"
    script.write_text(our_script(server_script, job.scratch / "tmp", gpu=job.gpu), "utf-8")
    argv = expand(
        job.command_line,
        binary=binary,
        scene=job.scene,
        script=script,
        prefix=job.scratch / "out" / PREFIX,
        frame=job.frame,
        cores=job.cores,
    )
    nice = shutil.which("nice") if os.name == "posix" else None
    return [nice, "-n", "19", *argv] if nice else argv


class _Run:
    """One renderer process from start to end."""

    def __init__(self, job: Job, switch: Switch, guard: Guard, on_progress: Callable[[Progress], None]) -> None:
        self._job, self._switch, self._guard, self._on_progress = job, switch, guard, on_progress
        self._mark = secrets.token_hex(16)
        self._progress = Progress()
        self._output = Output(self._read)
        self._tree_kb = 0
        self._exit_code = 0
        self.render_s = 0.0
        self.out_of_time = False

    @property
    def memory_kb(self) -> int:
        return max(self._progress.memory_kb, self._tree_kb)

    def to_its_end(self, argv: list[str]) -> None:
        """Starts the renderer and returns when no process of it is left."""
        if self._switch.stopped():
            return
        self._guard.about_to_start(self._mark)
        process: subprocess.Popen[bytes] | None = None
        began = time.monotonic()
        try:
            process = self._start(argv)
            self._guard.started(self._mark, process.pid)
            reader = threading.Thread(target=self._stream, args=(process,), daemon=True)
            reader.start()
            self._watch(process, began)
        finally:
            _end(self._mark, process)
            self._guard.over(self._mark)
        self._exit_code = process.wait()
        self.render_s = time.monotonic() - began
        reader.join(LAST_OUTPUT_S)
        self._output.close()

    def report(self) -> FailureReport:
        """What the depot is told about a render without a picture."""
        log_text = self._output.text()
        if self.out_of_time:
            kind, reason = FailureKind.TIME_LIMIT, f"stopped after the limit of {self._job.time_limit_s:g} seconds"
        else:
            crash_files = sorted((self._job.scratch / "tmp").rglob("*.crash.txt"))
            remains = Remains(
                exit_code=self._exit_code,
                ran_s=self.render_s,
                log=log_text,
                crash_file=bool(crash_files),
                memory_kb=self.memory_kb,
                ram_kb=usable_ram() // 1024,
            )
            kind, reason = why(remains)
            log_text += _first_of(crash_files)
        return FailureReport(kind=kind, reason=reason, log=log_text, render_s=self.render_s, memory_kb=self.memory_kb)

    def _start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        job = self._job
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=job.scratch,
                env=environment(job.renderer, job.scratch, self._mark),
                start_new_session=True,
                creationflags=getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)
                | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            reason = f"the renderer cannot be started: {os.strerror(error.errno or 0)}"
            raise AttemptFailed.because(FailureKind.BAD_ARCHIVE, reason) from None

    def _watch(self, process: subprocess.Popen[bytes], began: float) -> None:
        measured = 0.0
        while not _ended(process):
            now = time.monotonic()
            limit = self._job.time_limit_s
            if limit is not None and now - began >= limit:
                self.out_of_time = True
                return
            if self._switch.stopped():
                return
            if now - measured >= MEASURE_EVERY_S:
                self._tree_kb = max(self._tree_kb, tree_memory_kb(process.pid))
                measured = now

    def _stream(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        with contextlib.suppress(OSError, ValueError):
            while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
                self._output.feed(chunk)

    def _read(self, line: str) -> None:
        now = read_line(line, self._job.update_method, self._progress)
        if now != self._progress:
            self._progress = now
            self._on_progress(now)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(LOOK_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(mark: str, process: subprocess.Popen[bytes] | None) -> None:
    """Kills what is left of a render. The pid of a process already waited for may be somebody else's by now."""
    pid = process.pid if process and process.returncode is None else 0
    if os.name == "posix":
        kill_marked({mark: pid})
    if os.name == "posix" or not pid:
        return
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for one in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.Error):
                one.kill()


def _first_of(crash_files: list[Path]) -> str:
    for path in crash_files:
        with contextlib.suppress(OSError), path.open("rb") as file:
            return f"\n# {path.name}\n" + file.read(64 * 1024).decode("utf-8", "replace")
    return ""
