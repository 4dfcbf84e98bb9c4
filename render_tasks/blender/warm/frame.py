"""One frame under way in a Blender that stays open: its log, its time, its memory, its end."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from render_tasks.blender.memory import measure, over_limit
from render_tasks.blender.output.log_buffer import LogBuffer
from render_tasks.blender.output.progress import Progress, read_line
from render_tasks.blender.render_job import RenderedFrame, RenderJob
from sheepfold.contract.api_messages import FailureKind, FailureReport

from .wire import Reply

#: ``Fra:12 Mem:39.50M (0.00M, Peak 49.61M)``: a peak of Blender's whole life, earlier frames included.
_PEAK_OF_ITS_LIFE = re.compile(r"\([^()]{0,80}\bPeak [^()]{0,40}\)")


class Frame:
    """One frame under way; the reading thread feeds it."""

    def __init__(self, job: RenderJob, *, is_first: bool, on_progress: Callable[[Progress], None]) -> None:
        self.output = LogBuffer(self._read)
        self.over = threading.Event()
        self.reply: Reply | None = None
        self.tree_kb = 0
        self._job, self._is_first, self._on_progress = job, is_first, on_progress
        self._progress = Progress()
        self._began_at = self._ended_at = time.monotonic()

    @property
    def memory_kb(self) -> int:
        """Its peak so far."""
        return max(self._progress.memory_kb, self.tree_kb)

    @property
    def took_s(self) -> float:
        """Seconds so far, or until its end."""
        return (self._ended_at if self.over.is_set() else time.monotonic()) - self._began_at

    def begin(self) -> None:
        """Its time runs from here on."""
        self._began_at = time.monotonic()

    def is_told(self) -> None:
        """Blender knows of it."""
        self._on_progress(self._progress)

    def end(self, reply: Reply | None) -> None:
        """Blender has answered; ``None``: it has ended without a word."""
        if not self.over.is_set():
            self.output.close()
            self.reply, self._ended_at = reply, time.monotonic()
            self.over.set()

    def measure(self, pid: int) -> str:
        """Why it must end for the memory it takes; empty while it may go on."""
        held = measure(pid)
        if held.peak_kb > self.tree_kb:
            self.tree_kb = held.peak_kb
            self._tell()
        return over_limit(pid, held, self._job.memory_limit_kb)

    def rendered(self, picture: Path) -> RenderedFrame:
        """What came of it."""
        return RenderedFrame(
            picture=picture,
            render_s=self.took_s,
            memory_kb=self.memory_kb,
            began_at=self._began_at,
            picture_at=self._ended_at,
        )

    def is_late(self) -> bool:
        """Whether its time is over."""
        limit = self._job.time_limit_s
        return limit is not None and self.took_s >= limit

    def too_late(self) -> FailureReport:
        """What the depot is told when its time is over."""
        return self.ended_by_us(
            FailureKind.TIME_LIMIT, f"stopped after the limit of {self._job.time_limit_s:g} seconds"
        )

    def ended_by_us(self, kind: FailureKind, reason: str) -> FailureReport:
        """What the depot is told when a limit ends it."""
        return FailureReport(
            kind=kind,
            reason=reason,
            log=self.output.text(),
            render_s=self.took_s,
            memory_kb=self.memory_kb,
        )

    def _read(self, line: str) -> None:
        if not self._is_first:
            line = _PEAK_OF_ITS_LIFE.sub("", line[:2000])
        now = read_line(line, self._job.update_method, self._progress)
        if now != self._progress:
            self._progress = now
            self._tell()

    def _tell(self) -> None:
        """Blender counts its own memory only, and not all of that: the process tree's is told."""
        self._on_progress(replace(self._progress, memory_kb=self.memory_kb))
