"""One frame under way in a Blender that stays open.

It is a :class:`~render_tasks.blender.render_run.RenderRun` that ends with a reply, or with the exit of the process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from render_tasks.blender.output.progress import Progress
from render_tasks.blender.process import RendererProcess
from render_tasks.blender.render_job import RenderJob
from render_tasks.blender.render_run import RenderRun

from .wire import Reply

#: ``Fra:12 Mem:39.50M (0.00M, Peak 49.61M)``: a peak of Blender's whole life, earlier frames included.
_PEAK_OF_ITS_LIFE = re.compile(r"\([^()]{0,80}\bPeak [^()]{0,40}\)")
#: A longer line tells no progress.
_MAX_LINE_CHARS = 2000


class WarmFrame:
    """The frame that Blender was told last; the reading thread feeds and ends it."""

    def __init__(self, job: RenderJob, *, is_first: bool, on_progress: Callable[[Progress], None]) -> None:
        self.run = RenderRun(job, on_progress, (lambda line: line) if is_first else _without_earlier_peak)
        #: ``None``: Blender has not answered, or has ended without an answer.
        self.reply: Reply | None = None
        self._over = threading.Event()

    def feed(self, chunk: bytes) -> None:
        """Output of Blender, cut anywhere; what comes after the end belongs to no frame."""
        if not self._over.is_set():
            self.run.feed(chunk)

    def end(self, reply: Reply | None) -> None:
        """Blender has answered; ``None``: it has ended without an answer. The first call counts."""
        if not self._over.is_set():
            self.run.close_log()
            self.run.stop_clock()
            self.reply = reply
            self._over.set()

    def is_over(self, renderer: RendererProcess, seconds: float) -> bool:
        """Waits for the end, at most so many seconds; a reply is noticed at once, an exit after them."""
        if self._over.wait(seconds):
            return True
        if not renderer.has_exited():
            return False
        renderer.drain()
        self.end(None)
        return True


def _without_earlier_peak(line: str) -> str:
    return _PEAK_OF_ITS_LIFE.sub("", line[:_MAX_LINE_CHARS])
