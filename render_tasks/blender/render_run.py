"""One frame under way in a renderer: its log, its time, its memory, its limits, and what came of it.

A renderer of the frame's own (:mod:`render_tasks.blender.runner`) and one that stays open
(:mod:`render_tasks.blender.warm.process`) go through the same steps; the process itself is a
:class:`~render_tasks.blender.process.RendererProcess`::

    begin ─▶ (the process starts, or is told of the frame) ─▶ tell ─▶ watch ─▶ stop_clock ─▶ rendered
                        feed: in the process's reading thread                       └──────▶ report, exit_report

They differ in how they know that the frame is over (``is_over`` of :meth:`RenderRun.watch`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from render_tasks.blender.output.diagnosis import ExitEvidence, diagnose, ended_without_picture
from render_tasks.blender.output.left_files import crash_reports, read_crash_report
from render_tasks.blender.output.log_buffer import LogBuffer
from render_tasks.blender.output.progress import Progress, read_line
from render_tasks.cancellation import CancelToken
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.hardware import usable_ram

from .installed import answers_in
from .memory import measure, over_limit
from .process import RendererProcess
from .render_job import RenderedFrame, RenderJob
from .sandbox.consumption import too_many_processes, too_much_on_disk

#: What the log of a renderer may say of the Blender that this PC has.
_OF_THE_PC = (FailureKind.NO_BLENDER, FailureKind.MISSING_LIBRARIES)
#: How soon a stop, or the renderer's end, is noticed.
LOOK_EVERY_S = 0.1
#: Memory is sampled this often, which with a look's length is twice a second at least: a limit has to be noticed before
#: the PC swaps. Linux keeps each process's own peak between two looks.
MEASURE_EVERY_S = 0.3
#: Of the crash reports in its folder; Blender writes one.
MOST_CRASH_REPORTS = 3


class RenderRun:
    """One frame under way. The process's reading thread feeds it, its own thread does the rest.

    ``line_filter`` is given each line before its progress is read.
    """

    def __init__(
        self,
        job: RenderJob,
        on_progress: Callable[[Progress], None],
        line_filter: Callable[[str], str] = lambda line: line,
    ) -> None:
        self._job, self._on_progress, self._line_filter = job, on_progress, line_filter
        self._output = LogBuffer(self._read)
        self._progress = Progress()
        self._tree_kb = 0
        self._began_at = time.monotonic()
        self._ended_at: float | None = None
        #: Kind and reason where a limit was hit.
        self.limit_hit: tuple[FailureKind, str] | None = None

    @property
    def render_s(self) -> float:
        """Seconds so far, or until its end."""
        return (time.monotonic() if self._ended_at is None else self._ended_at) - self._began_at

    @property
    def memory_kb(self) -> int:
        """Its peak so far: Blender counts its own memory only, and not all of that."""
        return max(self._progress.memory_kb, self._tree_kb)

    def begin(self) -> None:
        """Its time counts from here on."""
        self._began_at = time.monotonic()

    def tell(self) -> None:
        """Tells the progress so far, with the memory of the whole process tree."""
        self._on_progress(replace(self._progress, memory_kb=self.memory_kb))

    def feed(self, chunk: bytes) -> None:
        """Output of the renderer, cut anywhere."""
        self._output.feed(chunk)

    def close_log(self) -> None:
        """Reads a last line that has no line end."""
        self._output.close()

    def log_text(self) -> str:
        """The output so far, of bounded size."""
        return self._output.text()

    def watch(
        self,
        renderer: RendererProcess,
        cancel_token: CancelToken,
        is_over: Callable[[float], bool],
        *,
        always_measured_s: float = 0.0,
    ) -> None:
        """Returns when the frame is over, cancelled, or at a limit (:attr:`limit_hit`); kills nothing.

        ``is_over`` waits for the end, at most so many seconds. Until ``always_measured_s`` memory is sampled at every
        look: a short render is over before a second sample would come.
        """
        measured_at = time.monotonic()
        while not is_over(LOOK_EVERY_S) and not cancel_token.is_cancelled():
            now, limit_s = time.monotonic(), self._job.time_limit_s
            if limit_s is not None and self.render_s >= limit_s:
                self.limit_hit = FailureKind.TIME_LIMIT, f"stopped after the limit of {limit_s:g} seconds"
            elif self.render_s < always_measured_s or now - measured_at >= MEASURE_EVERY_S:
                self._measure(renderer)
                measured_at = now
            if self.limit_hit:
                return

    def note_peak(self, tree_kb: int) -> None:
        """The process tree held this much at some time of this frame (kB)."""
        self._tree_kb = max(self._tree_kb, tree_kb)

    def stop_clock(self) -> None:
        """Its time is over; the first call counts."""
        if self._ended_at is None:
            self._ended_at = time.monotonic()

    def rendered(self, picture: Path) -> RenderedFrame:
        """The result of a frame whose clock was stopped."""
        assert self._ended_at is not None
        return RenderedFrame(
            picture=picture,
            render_s=self.render_s,
            memory_kb=self.memory_kb,
            began_at=self._began_at,
            picture_at=self._ended_at,
        )

    def report(self, kind: FailureKind, reason: str) -> FailureReport:
        """What the coordinator is told about a frame without a picture."""
        return FailureReport(
            kind=kind, reason=reason, log=self.log_text(), render_s=self.render_s, memory_kb=self.memory_kb
        )

    def exit_report(self, renderer: RendererProcess, *, is_whole_log: bool) -> FailureReport:
        """The same about a renderer that ended by itself; with its crash report, where it left one.

        ``is_whole_log``: the log begins where the renderer did.
        """
        crash_files = crash_reports(renderer.folder)
        evidence = ExitEvidence(
            exit_code=renderer.exit_code(),
            ran_s=self.render_s,
            log=self.log_text(),
            crash_file=bool(crash_files),
            memory_kb=self.memory_kb,
            ram_kb=usable_ram() // 1024,
            is_launcher=renderer.is_launcher,
            is_whole_log=is_whole_log,
        )
        kind, reason = diagnose(evidence)
        if kind in _OF_THE_PC and evidence.is_launcher and answers_in(self._job.sandbox):
            # A frame that ends early can look like a Blender that does not start.
            kind, reason = FailureKind.NO_OUTPUT, ended_without_picture(evidence)
        report = self.report(kind, reason)
        left = "".join(read_crash_report(renderer.folder, name) for name in crash_files[:MOST_CRASH_REPORTS])
        return replace(report, log=report.log + left)

    def _measure(self, renderer: RendererProcess) -> None:
        held = measure(renderer.pid)
        if held.peak_kb > self._tree_kb:
            self._tree_kb = held.peak_kb
            self.tell()
        limits = self._job.sandbox.limits
        # First what is known already: of a hundred processes an exact count of memory takes long.
        if reason := too_many_processes(held.processes, limits):
            self.limit_hit = FailureKind.RESOURCE_LIMIT, reason
        elif reason := over_limit(renderer.pid, held, self._job.memory_limit_kb):
            many = too_many_processes(measure(renderer.pid).processes, limits)
            self.limit_hit = (FailureKind.RESOURCE_LIMIT, many) if many else (FailureKind.OUT_OF_MEMORY, reason)
        elif reason := too_much_on_disk(renderer.pid, renderer.folder, limits):
            self.limit_hit = FailureKind.RESOURCE_LIMIT, reason

    def _read(self, line: str) -> None:
        now = read_line(self._line_filter(line), self._job.update_method, self._progress)
        if now != self._progress:
            self._progress = now
            self.tell()
