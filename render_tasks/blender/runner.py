"""Runs one renderer for one frame: start, stream, measure, stop the whole tree, find the picture.

Its folder is the attempt's scratch folder (see :mod:`render_tasks.blender.process`). When the attempt is over, for
whatever reason, every process with its mark is gone before :func:`render` returns.

A stop is decided before anything is killed: the :class:`~render_tasks.cancellation.CancelToken` is thrown first, so the
death that follows is never taken for a crash.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from render_tasks.blender.output.diagnosis import ExitEvidence, diagnose, missing_engine
from render_tasks.blender.output.log_buffer import LogBuffer
from render_tasks.blender.output.progress import Progress, read_line
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.hardware import usable_ram
from sheepfold.launchers import is_launcher

from .command_line import expand, newest_picture
from .memory import measure, over_limit
from .orphan_guard import OrphanGuard
from .process import binary_of, crash_reports, end_tree, first_of, furnish, start
from .render_job import PREFIX, RenderedFrame, RenderJob

__all__ = ["PREFIX", "RenderJob", "RenderedFrame", "render"]

#: How soon a stop or the renderer's end is noticed.
LOOK_EVERY_S = 0.1
#: Until then memory is sampled at every look.
SHORT_RENDER_S = 3.0
#: Memory is sampled this often, which with a look's length is twice a second at least: a limit has to be noticed before
#: the PC swaps. Linux keeps each process's own peak between two looks.
MEASURE_EVERY_S = 0.3
#: The last output of a renderer that ended, unless a stray child holds the pipe open.
LAST_OUTPUT_S = 2


def render(
    job: RenderJob, switch: CancelToken, guard: OrphanGuard, on_progress: Callable[[Progress], None]
) -> RenderedFrame:
    """Renders one frame.

    ``on_progress`` is called first when the renderer begins.

    Raises AttemptFailed with the report, AttemptDropped when ``switch`` stopped it, BadOrder.
    """
    argv = _prepare(job)
    run = _Run(job, switch, guard, on_progress)
    run.to_its_end(argv)
    if switch.is_cancelled():
        raise AttemptDropped(switch.reason)
    picture = newest_picture(job.scratch / "out", PREFIX, job.frame)
    if picture and not run.ended_by_us:
        run.check_engine()
        return run.rendered(picture)
    raise AttemptFailed(run.report())


def _prepare(job: RenderJob) -> list[str]:
    binary = binary_of(job)
    return expand(
        job.command_line,
        binary=binary,
        scene=job.scene,
        script=furnish(job.scratch, job),
        prefix=job.scratch / "out" / PREFIX,
        frame=job.frame,
        cores=job.cores,
    )


class _Run:
    """One renderer process from start to end."""

    def __init__(
        self, job: RenderJob, switch: CancelToken, guard: OrphanGuard, on_progress: Callable[[Progress], None]
    ) -> None:
        self._job, self._switch, self._guard, self._on_progress = job, switch, guard, on_progress
        self._mark = secrets.token_hex(16)
        self._progress = Progress()
        self._output = LogBuffer(self._read)
        self._tree_kb = 0
        self._exit_code = 0
        self._began_at = self._ended_at = 0.0
        #: Kind and reason where a limit ended it.
        self.ended_by_us: tuple[FailureKind, str] | None = None

    @property
    def _memory_kb(self) -> int:
        return max(self._progress.memory_kb, self._tree_kb)

    @property
    def _render_s(self) -> float:
        return self._ended_at - self._began_at

    def to_its_end(self, argv: list[str]) -> None:
        """Starts the renderer and returns when no process of it is left."""
        if self._switch.is_cancelled():
            return
        self._guard.about_to_start(self._mark)
        process: subprocess.Popen[bytes] | None = None
        self._began_at = self._ended_at = time.monotonic()
        try:
            process = start(argv, folder=self._job.scratch, renderer=self._job.renderer, mark=self._mark)
            self._guard.started(self._mark, process.pid)
            reader = threading.Thread(target=self._stream, args=(process,), daemon=True)
            reader.start()
            self._on_progress(self._progress)
            self._watch(process)
            self._ended_at = time.monotonic()
        finally:
            end_tree(self._mark, process)
            self._guard.over(self._mark)
        assert process
        self._exit_code = process.wait()
        reader.join(LAST_OUTPUT_S)
        self._output.close()

    def rendered(self, picture: Path) -> RenderedFrame:
        """What came of it."""
        return RenderedFrame(
            picture=picture,
            render_s=self._render_s,
            memory_kb=self._memory_kb,
            began_at=self._began_at,
            picture_at=self._ended_at,
        )

    def check_engine(self) -> None:
        """Raises AttemptFailed where Blender lacks the scene's engine and rendered with another one."""
        log_text = self._output.text()
        if reason := missing_engine(log_text, self._job.script):
            raise AttemptFailed(FailureReport(kind=FailureKind.NO_ENGINE, reason=reason, log=log_text))

    def report(self) -> FailureReport:
        """What the depot is told about a render without a picture."""
        log_text = self._output.text()
        if self.ended_by_us:
            kind, reason = self.ended_by_us
        else:
            crash_files = crash_reports(self._job.scratch)
            remains = ExitEvidence(
                exit_code=self._exit_code,
                ran_s=self._render_s,
                log=log_text,
                crash_file=bool(crash_files),
                memory_kb=self._memory_kb,
                ram_kb=usable_ram() // 1024,
                is_launcher=is_launcher(binary_of(self._job)),
                is_whole_log=True,
            )
            kind, reason = diagnose(remains)
            log_text += first_of(crash_files)
        return FailureReport(kind=kind, reason=reason, log=log_text, render_s=self._render_s, memory_kb=self._memory_kb)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        measured = 0.0
        while not _ended(process):
            now = time.monotonic()
            ran_s, limit = now - self._began_at, self._job.time_limit_s
            if limit is not None and ran_s >= limit:
                self.ended_by_us = FailureKind.TIME_LIMIT, f"stopped after the limit of {limit:g} seconds"
            # A short render is over before a second look would come.
            elif ran_s < SHORT_RENDER_S or now - measured >= MEASURE_EVERY_S:
                self._measure(process.pid)
                measured = now
            if self.ended_by_us or self._switch.is_cancelled():
                return

    def _measure(self, pid: int) -> None:
        held = measure(pid)
        if held.peak_kb > self._tree_kb:
            self._tree_kb = held.peak_kb
            self._tell()
        if reason := over_limit(pid, held, self._job.memory_limit_kb):
            self.ended_by_us = FailureKind.OUT_OF_MEMORY, reason

    def _stream(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        with contextlib.suppress(OSError, ValueError):
            while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
                self._output.feed(chunk)

    def _read(self, line: str) -> None:
        now = read_line(line, self._job.update_method, self._progress)
        if now != self._progress:
            self._progress = now
            self._tell()

    def _tell(self) -> None:
        """Blender counts its own memory only, and not all of that: the process tree's is told."""
        self._on_progress(replace(self._progress, memory_kb=self._memory_kb))


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(LOOK_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True
