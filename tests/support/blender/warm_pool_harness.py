"""A pool of real Blenders that stay open: its frames, and what the server's own command line gives."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.output.progress import Progress
from render_tasks.blender.render_job import RenderedFrame, RenderJob
from render_tasks.blender.warm.pool import WarmBlenders
from render_tasks.cancellation import CancelToken
from tests.support.blender.render_jobs import job
from tests.support.nodes.null_renderer import COMMAND_LINE

PLAIN = "import bpy\n"


class WarmPoolHarness:
    """A pool and what its frames need."""

    def __init__(self, renderer: Path, scenes: Path, folder: Path, guard: OrphanGuard) -> None:
        self.renderer, self.scenes, self.folder, self.guard = renderer, scenes, folder, guard
        self.pool = WarmBlenders(folder / "warm", slots=1)
        self._starts_before = len(self.pids())

    def pids(self) -> list[int]:
        """Of every renderer that was started, oldest first."""
        return [int(line) for line in (self.renderer / "starts").read_text().split()]

    @property
    def starts(self) -> int:
        """Renderers started by this test."""
        return len(self.pids()) - self._starts_before

    def job(self, scene: str, frame: str, **changes: object) -> RenderJob:
        settings: dict[str, object] = {
            "scene_key": hashlib.md5(scene.encode()).hexdigest(),
            "script": PLAIN,
            "scratch": self.folder / f"attempt {frame}",
        }
        return job(self.renderer, self.scenes / f"{scene}.blend", self.folder, frame, **(settings | changes))

    def render(
        self,
        job: RenderJob,
        token: CancelToken | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> RenderedFrame:
        return self.pool.render(job, token or CancelToken(), self.guard, on_progress)

    def by_hand(self, blender: str, scene: str, frame: str, script: str, line: str = COMMAND_LINE) -> Path:
        """What the server's own command line gives."""
        path = self.folder / "by hand.py"
        path.write_text(script)
        prefix = self.folder / "by hand" / "frame_"
        shutil.rmtree(prefix.parent, ignore_errors=True)
        parts = {
            ".e": [blender],
            ".c": [str(self.scenes / f"{scene}.blend"), "-P", str(path)],
            ".o": [str(prefix)],
            ".f": [str(int(frame))],
        }
        argv = [part for word in line.split() for part in parts.get(word, [word])]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
        return next(prefix.parent.iterdir())


def open_scenes(bench: WarmPoolHarness) -> set[Path]:
    return {key.scene for key in bench.pool.open_keys()}
