"""Renders one frame with a renderer of its own: start, watch, end the whole process tree, find the picture.

Its folder is the attempt's scratch folder (see :mod:`render_tasks.blender.process`). When the attempt is over, for
whatever reason, every process with its mark is gone before :func:`render` returns.

A stop is decided before anything is killed: the :class:`~render_tasks.cancellation.CancelToken` is set first, so the
death that follows is never taken for a crash.
"""

from __future__ import annotations

from collections.abc import Callable

from render_tasks.blender.output.diagnosis import missing_engine
from render_tasks.blender.output.left_files import LOOK_WITHIN_S, OUT, find_picture
from render_tasks.blender.output.progress import Progress
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from render_tasks.untrusted.deadline import within
from sheepfold.contract.api_messages import FailureKind, FailureReport

from .command_line import expand, frame_number
from .orphan_guard import OrphanGuard
from .process import RendererProcess, binary_of, prepare_folder
from .render_job import PREFIX, RenderedFrame, RenderJob
from .render_run import RenderRun

__all__ = ["PREFIX", "RenderJob", "RenderedFrame", "render"]

#: Until then memory is sampled at every look.
SHORT_RENDER_S = 3.0


def render(
    job: RenderJob, cancel_token: CancelToken, guard: OrphanGuard, on_progress: Callable[[Progress], None]
) -> RenderedFrame:
    """Renders one frame.

    ``on_progress`` is called first when the renderer begins.

    Raises AttemptFailed with the report, AttemptDropped when ``cancel_token`` is set, BadOrder.
    """
    run = RenderRun(job, on_progress)
    renderer = RendererProcess(job.scratch, guard, run.feed)
    _start_to_exit(job, run, renderer, cancel_token)
    if cancel_token.is_cancelled():
        raise AttemptDropped(cancel_token.reason)
    if run.limit_hit:
        raise AttemptFailed(run.report(*run.limit_hit))
    return within(LOOK_WITHIN_S, lambda: _result(job, run, renderer), cancel_token, doing="looking for the picture")


def _result(job: RenderJob, run: RenderRun, renderer: RendererProcess) -> RenderedFrame:
    picture = find_picture(job.scratch, frame_number(job.frame), run.log_text)
    if picture is None:
        raise AttemptFailed(run.exit_report(renderer, is_whole_log=True))
    if reason := missing_engine(run.log_text(), job.script):
        raise AttemptFailed(FailureReport(kind=FailureKind.NO_ENGINE, reason=reason, log=run.log_text()))
    return run.rendered(picture)


def _start_to_exit(job: RenderJob, run: RenderRun, renderer: RendererProcess, cancel_token: CancelToken) -> None:
    """Returns when no process of the renderer is left."""
    binary = binary_of(job)
    argv = expand(
        job.command_line,
        binary=binary,
        scene=job.scene,
        script=prepare_folder(job.scratch, job),
        prefix=job.scratch / OUT / PREFIX,
        frame=job.frame,
        cores=job.cores,
    )
    if cancel_token.is_cancelled():
        return
    run.begin()
    try:
        renderer.start(argv, job, binary)
        run.tell()
        run.watch(renderer, cancel_token, renderer.has_exited, always_measured_s=SHORT_RENDER_S)
        run.stop_clock()
    finally:
        renderer.end()
    run.close_log()
