"""From an order to a picture: its fence, archives, a slot, the renderer.

Everything that needs no slot is done before and after one is held: archives are fetched while other frames render, and
what is said about a render is said when the next one has the slot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from render_tasks.blender.command_line import scene_file
from render_tasks.blender.render_job import RenderedFrame, RenderJob
from render_tasks.blender.runner import render
from render_tasks.blender.warm.process import key_of
from render_tasks.cancellation import CancelToken
from render_tasks.retry import retry_while_unreachable
from sheepfold.contract.api_messages import StartAnswer
from sheepfold.contract.orders import ArchiveRef, RenderOrder, is_test_job, scene_key
from sheepfold.contract.presence import Compute, Stage

from .arrival_order import ArrivalOrder
from .attempts import Attempt
from .services import NodeIdentity, NodeServices
from .slot_gaps import SlotGaps
from .slots import Slot, Slots

log = logging.getLogger(__name__)

#: An archive that cannot be fetched for this long, while the coordinator answers everything else, is a failure.
ARCHIVE_LIMIT_S = 600.0


class RenderPipeline:
    """Renders orders on the slots of a node. Threads share it."""

    def __init__(
        self, identity: NodeIdentity, services: NodeServices, on_stage: Callable[[Attempt, Stage], None]
    ) -> None:
        self._identity, self._services, self._on_stage = identity, services, on_stage
        self._slots = Slots(identity.slots, services.warm.open_keys if services.warm else lambda: ())
        self._gaps, self._arrival_order = SlotGaps(), ArrivalOrder()

    def render(
        self, order: RenderOrder, pass_fence: Callable[[], StartAnswer], attempt: Attempt, scratch: Path
    ) -> RenderedFrame:
        """Renders an order that passes its fence; the picture lies in ``scratch``.

        Raises what ``pass_fence`` does, AttemptFailed, AttemptDropped, and what the archives raise (ArchiveError,
        BadOrder, CoordinatorError).
        """
        needs = ((order.renderer_archive,), order.scene_archives)
        render_frame = self._services.warm.render if self._services.warm else render
        with self._services.cache.using(*needs):
            with self._arrival_order.preparing(needs, attempt.came_at):
                start = pass_fence()
                job = self._job(order, *self._archives(order, start, attempt.cancel_token), scratch)
                self._on_stage(attempt, Stage.WAITING)
            with self._slots.acquire(key_of(job), attempt.cancel_token, came_at=attempt.came_at) as slot:
                self._on_stage(attempt, Stage.RENDERING)
                before_at, slot.picture_at = slot.picture_at, None
                rendered = render_frame(job, attempt.cancel_token, self._services.guard, attempt.note)
                slot.picture_at = rendered.picture_at
            self._tell(attempt, slot, rendered, before_at)
            return rendered

    def _job(self, order: RenderOrder, renderer: Path, scene: Path, scratch: Path) -> RenderJob:
        return RenderJob(
            renderer=renderer,
            renderer_md5=order.renderer_archive.md5,
            scene_key=scene_key([ref.md5 for ref in order.scene_archives]),
            revision=order.revision,
            scene=scene_file(scene, order.scene_path),
            scene_folder=scene,
            command_line=order.command_line,
            script=order.script,
            frame=order.frame,
            update_method=order.update_method,
            gpu=order.use_gpu and self._identity.compute is not Compute.CPU,
            cores=self._identity.cores,
            time_limit_s=order.time_limit_s,
            memory_limit_kb=self._identity.memory_limit_kb,
            scratch=scratch,
            sandbox=self._services.sandbox,
            is_test=is_test_job(order.job_id),
            is_second_opinion=order.fresh_renderer,
        )

    def _archives(self, order: RenderOrder, start: StartAnswer, cancel_token: CancelToken) -> tuple[Path, Path]:
        """Renderer and scene; both travel at once where neither is here."""
        with ThreadPoolExecutor(1, "archive") as beside:
            renderer = beside.submit(self._unpacked, (order.renderer_archive,), cancel_token)
            password = start.scene_password if order.scene_locked else ""
            scene = self._unpacked(order.scene_archives, cancel_token, password)
            return renderer.result(), scene

    def _unpacked(self, refs: Sequence[ArchiveRef], cancel_token: CancelToken, password: str = "") -> Path:
        ensure = self._services.cache.ensure
        return retry_while_unreachable(
            lambda: ensure(refs, cancel_token.is_cancelled, password=password), cancel_token, ARCHIVE_LIMIT_S
        )

    def _tell(self, attempt: Attempt, slot: Slot, rendered: RenderedFrame, before_at: float | None) -> None:
        gap_s = None if before_at is None else rendered.began_at - before_at
        after = "" if gap_s is None else f", {gap_s * 1000:.0f} ms after the frame before"
        took, memory_mb = rendered.render_s, rendered.memory_kb // 1024
        log.info("%s rendered: %.3f s, %d MB, slot %d%s", attempt.label, took, memory_mb, slot.number, after)
        if gap_s is not None and (line := self._gaps.add(gap_s)):
            log.info("%s", line)
