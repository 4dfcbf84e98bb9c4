"""The Blenders that stay open, at most one per slot, and the way back to one Blender per frame.

::

    order ─▶ may it be warm? ─ no ─────────────────────────────────▶ a Blender of its own (:mod:`..runner`)
                │ yes                                                     ▲
                ▼                                                         │ the same attempt; the key stays cold
        one is open for this key? ─ no ─▶ make room, start one            │
                │ yes                          │                          │
                ▼                              ▼                          │
             render ◀──────────────────────────┘ ─ no picture, unsuited ──┘
                │ picture
                ▼
        kept for the next order with this key, unless it is worn out

Two orders share a Blender when renderer archive, scene archives, revision, scene path, command line, script, device and
core limit are the same (:class:`Key`). No more Blenders are alive than there are slots: one that waits for work is
closed when another key, or a cold render, needs its place, when it has waited for :data:`IDLE_S`, when an archive it
lives on goes (:meth:`WarmBlenders.release`), and when the node leaves.

**The same picture** is the promise; what cannot keep it is rendered cold:

- a command line or script that is not known to mean the same (:mod:`render_tasks.blender.warm.command_line`);
- test frames: they measure the PC from start to exit;
- frames that are rendered a second time because the first picture is in doubt: the open Blender may be what is wrong;
- scenes whose frames depend on those before: simulations, particles, movies, the video sequencer; and engines that
  were not compared with cold renders yet (:mod:`render_tasks.blender.warm.driver`);
- whatever failed warm once.

The server's script runs once, when Blender starts, before any frame is known; that is so with a Blender per frame too,
where it finds the frame the scene was saved at. A handler that it registers runs for each frame. One that counts its
calls would count on: a script cannot be seen to do that, and none is known that does.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from render_tasks.blender import runner as blender
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.output.progress import Progress
from render_tasks.blender.render_job import RenderedFrame, RenderJob
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.failure_causes import Cause, cause_of

from .command_line import BLEND_HEAD_BYTES, looks_like_a_scene, why_not_warm
from .process import NotReusable, WarmBlender, WarmFailed

log = logging.getLogger(__name__)

#: Nobody needs it: its memory goes back to whoever works at this PC.
IDLE_S = 180.0
#: Killing a process tree takes a tenth of this.
CLOSING_S = 1.0
#: Keys known to be cold; the one not asked for longest is forgotten first.
COLD_KEYS = 1000
#: Of the warm Blender's log, so much of the end goes with the report of the cold one.
WARM_LOG_CHARS = 32 * 1024


@dataclass(frozen=True, kw_only=True)
class Key:
    """What an open Blender was started with."""

    renderer_md5: str
    scene_key: str
    revision: str
    #: Where they are unpacked, and the .blend in there.
    renderer: Path
    scene: Path
    command_line: str
    script: str
    gpu: bool
    cores: int | None


def key_of(job: RenderJob) -> Key:
    """Everything in an order that Blender is started with."""
    return Key(
        renderer_md5=job.renderer_md5,
        scene_key=job.scene_key,
        revision=job.revision,
        renderer=job.renderer,
        scene=job.scene,
        command_line=job.command_line,
        script=job.script,
        gpu=job.gpu,
        cores=job.cores,
    )


class WarmBlenders:
    """Renders as :func:`render_tasks.blender.runner.render` does, sooner. Threads share it."""

    def __init__(self, folder: Path, *, slots: int, idle_s: float = IDLE_S) -> None:
        self._folder, self._slots, self._idle_s = folder, slots, idle_s
        self._changed = threading.Condition()
        #: The one used last stands last.
        self._idle: list[WarmBlender] = []
        #: Those that render. A cold render takes a place as well.
        self._rendering: list[WarmBlender] = []
        self._busy = 0
        self._started = 0
        self._cold: OrderedDict[Key, None] = OrderedDict()
        self._closed = False
        self._sweeper: threading.Thread | None = None
        #: Called when :meth:`warm_scenes` gives another answer than before.
        self.on_change: Callable[[], None] = lambda: None
        self._told: frozenset[str] = frozenset()

    def render(
        self, job: RenderJob, switch: CancelToken, guard: OrphanGuard, on_progress: Callable[[Progress], None]
    ) -> RenderedFrame:
        """Renders one frame; ``on_progress`` is called first when it begins.

        Raises AttemptFailed with the report, AttemptDropped when ``switch`` stopped it, BadOrder.
        """
        if switch.is_cancelled():
            raise AttemptDropped(switch.reason)
        key = key_of(job)
        why_cold = self._why_cold(job, key)
        if why_cold:
            log.debug("frame %s has a Blender of its own: %s", job.frame, why_cold)
        one = self._take(None if why_cold else key, guard)
        keep: WarmBlender | None = None
        try:
            if one is None:
                return blender.render(job, switch, guard, on_progress)
            try:
                rendered = self._warm(one, job, switch, on_progress)
            except (NotReusable, WarmFailed) as refusal:
                self._stay_cold(key)
                return _cold_after_all(refusal, job, switch, guard, on_progress)
            keep = one
            return rendered
        finally:
            self._give_back(keep)

    def open_keys(self) -> frozenset[Key]:
        """What a Blender waits for: an order with such a key needs no start."""
        with self._changed:
            return frozenset(one.key for one in self._idle if isinstance(one.key, Key))

    def warm_scenes(self) -> frozenset[str]:
        """Keys of the scenes with an open Blender, whether it waits or renders."""
        with self._changed:
            keys = [one.key for one in (*self._idle, *self._rendering)]
            return frozenset(key.scene_key for key in keys if isinstance(key, Key))

    def release(self, folder: Path) -> None:
        """Closes what lives on an archive that is about to go."""
        self._close_some(lambda one: any(path.is_relative_to(folder) for path in one.folders), "its archive goes")

    def close_idle_once(self, now: float) -> float | None:
        """Closes what nobody has used for long; the time the next one is due, ``None`` when there is none."""
        self._close_some(lambda one: now - one.idle_since >= self._idle_s, "nobody needs it")
        with self._changed:
            return min((one.idle_since + self._idle_s for one in self._idle), default=None)

    def close(self) -> None:
        """Ends those that wait; one that renders ends with its attempt, and no new one stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._close_some(lambda _: True, "the node leaves")
        if self._sweeper:
            self._sweeper.join(CLOSING_S)

    def _why_cold(self, job: RenderJob, key: Key) -> str:
        if job.is_test:
            return "it is a test frame"
        if job.is_second_opinion:
            return "it is rendered a second time, to be compared"
        with self._changed:
            if self._closed:
                return "the node leaves"
            if key in self._cold:
                self._cold.move_to_end(key)
                return "this scene was not rendered well in an open one"
        return why_not_warm(job.command_line, job.script) or ("" if _is_scene(job.scene) else "the scene is no .blend")

    def _take(self, key: Key | None, guard: OrphanGuard) -> WarmBlender | None:
        """A place to render in, with a Blender for ``key`` if there is one; the others make room."""
        with self._changed:
            gone = [one for one in self._idle if not one.is_alive()]
            self._idle = [one for one in self._idle if one not in gone]
            one = next((one for one in reversed(self._idle) if one.key == key), None)
            if one:
                self._idle.remove(one)
            self._busy += 1
            surplus = self._idle[: max(0, self._busy + len(self._idle) - self._slots)]
            del self._idle[: len(surplus)]
            if one is None and key:
                self._started += 1
                one = WarmBlender(key, self._folder / f"warm-{self._started}", guard)
            self._rendering += [one] if one else []
        self._tell_if_changed()
        for other in gone:
            _close(other, "somebody ended it while it waited")
        for other in surplus:
            _close(other, "another needs its place")
        return one

    def _warm(
        self, one: WarmBlender, job: RenderJob, switch: CancelToken, on_progress: Callable[[Progress], None]
    ) -> RenderedFrame:
        try:
            return one.render(job, switch, on_progress)
        except BaseException as error:
            with self._changed:
                self._rendering.remove(one)
            one.close()
            if isinstance(error, AttemptFailed) and cause_of(error.report.kind) is Cause.UNKNOWN:
                # A limit ended it, or it could not be started: the next frame shall not meet the same trap.
                self._stay_cold(key_of(job))
            raise

    def _give_back(self, one: WarmBlender | None) -> None:
        """The place is free again; ``one`` waits there for more, unless it is worn out."""
        why = one.why_close() if one else ""
        with self._changed:
            self._busy -= 1
            why = "the node leaves" if self._closed else why
            if one:
                self._rendering.remove(one)
            if one and not why:
                one.idle_since = time.monotonic()
                self._idle.append(one)
                self._wake_sweeper()
        self._tell_if_changed()
        if one and why:
            _close(one, why)

    def _tell_if_changed(self) -> None:
        now = self.warm_scenes()
        with self._changed:
            changed, self._told = now != self._told, now
        if changed:
            self.on_change()

    def _wake_sweeper(self) -> None:
        self._changed.notify_all()
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep, name="idle blenders", daemon=True)
            self._sweeper.start()

    def _stay_cold(self, key: Key) -> None:
        with self._changed:
            self._cold[key] = None
            if len(self._cold) > COLD_KEYS:
                self._cold.popitem(last=False)

    def _close_some(self, which: Callable[[WarmBlender], bool], why: str) -> None:
        with self._changed:
            going = [one for one in self._idle if which(one)]
            self._idle = [one for one in self._idle if one not in going]
        for one in going:
            _close(one, why)
        self._tell_if_changed()

    def _sweep(self) -> None:
        while not self._closed:
            due = self.close_idle_once(time.monotonic())
            with self._changed:
                if not self._closed:
                    self._changed.wait(None if due is None else max(0.0, due - time.monotonic()))


def _close(one: WarmBlender, why: str) -> None:
    log.info("a warm Blender is closed after %d frame(s): %s", one.frames, why)
    one.close()


def _cold_after_all(
    refusal: NotReusable | WarmFailed,
    job: RenderJob,
    switch: CancelToken,
    guard: OrphanGuard,
    on_progress: Callable[[Progress], None],
) -> RenderedFrame:
    if isinstance(refusal, NotReusable):
        log.info("%s is rendered by one Blender per frame: it has %s", job.scene.name, refusal)
        return blender.render(job, switch, guard, on_progress)
    log.warning(
        "frame %s of %s failed in a warm Blender (%s): rendered again, and from now on, by one Blender per frame",
        job.frame,
        job.scene.name,
        refusal.reason,
    )
    try:
        return blender.render(job, switch, guard, on_progress)
    except AttemptFailed as failed:
        before = f"\n# before, in a warm Blender: {refusal.reason}\n{refusal.log_text[-WARM_LOG_CHARS:]}"
        raise AttemptFailed(replace(failed.report, log=failed.report.log + before)) from None


def _is_scene(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return looks_like_a_scene(file.read(BLEND_HEAD_BYTES))
    return False
