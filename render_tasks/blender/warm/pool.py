"""The Blenders that stay open, at most one per slot, and the way back to one Blender per frame.

::

    order ─▶ may it be warm? ─ no ─────────────────────────────────▶ a Blender of its own (``runner.py``)
                │ yes                                                     ▲
                ▼                                                         │ the same attempt; the key stays cold
        one is open for this key? ─ no ─▶ close another, start one        │
                │ yes                          │                          │
                ▼                              ▼                          │
             render ◀──────────────────────────┘ ─ no picture, unsuited ──┘
                │ picture
                ▼
        kept for the next order with this key, unless it is worn out

Two orders share a Blender when renderer archive, scene archives, revision, scene path, command line, script, device and
core limit are the same (:class:`~render_tasks.blender.warm.process.Key`). No more Blenders are alive than there are
slots: one that waits for work is closed when another key, or a cold render, needs its place, when it has waited for
:data:`IDLE_S`, when an archive it runs from goes (:meth:`WarmBlenders.release`), and when the node leaves.

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
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from render_tasks.blender import runner
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.output.progress import Progress
from render_tasks.blender.render_job import RenderedFrame, RenderJob
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed, NotReusable, WarmFailed
from sheepfold.contract.failure_causes import Cause, cause_of

from .command_line import BLEND_HEAD_BYTES, looks_like_a_scene, why_not_warm
from .process import Key, WarmBlender, key_of

log = logging.getLogger(__name__)

#: Nobody needs it: its memory goes back to whoever works at this PC.
IDLE_S = 180.0
#: Killing a process tree takes a tenth of this.
CLOSING_S = 1.0
#: Keys known to be cold; the one not asked for longest is forgotten first.
COLD_KEYS = 1000
#: Of the warm Blender's log, so much of the end goes with the report of the cold one.
WARM_LOG_CHARS = 32 * 1024


class WarmBlenders:
    """Renders as :func:`render_tasks.blender.runner.render` does, sooner. Threads share it."""

    def __init__(
        self, folder: Path, *, slots: int, idle_s: float = IDLE_S, on_change: Callable[[], None] = lambda: None
    ) -> None:
        """``on_change`` is called when :meth:`warm_scenes` gives another answer than before."""
        self._folder, self._slots, self._idle_s = folder, slots, idle_s
        self._changed = threading.Condition()
        #: The one used last stands last.
        self._idle: list[WarmBlender] = []
        #: Those that render. A cold render takes a place as well.
        self._rendering: list[WarmBlender] = []
        self._busy = 0
        self._cold: OrderedDict[Key, None] = OrderedDict()
        self._closed = False
        self._idle_closer: threading.Thread | None = None
        self._on_change = on_change
        self._told: frozenset[str] = frozenset()

    def render(
        self, job: RenderJob, cancel_token: CancelToken, guard: OrphanGuard, on_progress: Callable[[Progress], None]
    ) -> RenderedFrame:
        """Renders one frame; ``on_progress`` is called first when it begins.

        Raises AttemptFailed with the report, AttemptDropped when ``cancel_token`` stopped it, BadOrder.
        """
        if cancel_token.is_cancelled():
            raise AttemptDropped(cancel_token.reason)
        key = key_of(job)
        why_cold = self._why_cold(job, key)
        if why_cold:
            log.debug("frame %s has a Blender of its own: %s", job.frame, why_cold)
        blender = self._take(None if why_cold else key, guard)
        keep: WarmBlender | None = None
        try:
            if blender is None:
                return runner.render(job, cancel_token, guard, on_progress)
            try:
                rendered = self._warm(blender, job, cancel_token, on_progress)
            except (NotReusable, WarmFailed) as refusal:
                self._stay_cold(key)
                return _cold_after_all(refusal, job, cancel_token, guard, on_progress)
            keep = blender
            return rendered
        finally:
            self._give_back(keep)

    def open_keys(self) -> frozenset[Key]:
        """What a Blender waits for: an order with such a key needs no start."""
        with self._changed:
            return frozenset(blender.key for blender in self._idle if isinstance(blender.key, Key))

    def warm_scenes(self) -> frozenset[str]:
        """Keys of the scenes with an open Blender, whether it waits or renders."""
        with self._changed:
            keys = [blender.key for blender in (*self._idle, *self._rendering)]
            return frozenset(key.scene_key for key in keys if isinstance(key, Key))

    def release(self, folder: Path) -> None:
        """Closes what lives on an archive that is about to go."""
        self._close_some(
            lambda blender: any(path.is_relative_to(folder) for path in blender.folders), "its archive goes"
        )

    def close_idle_once(self, now: float) -> float | None:
        """Closes what nobody has used for long; the time the next one is due, ``None`` when there is none."""
        self._close_some(lambda blender: now - blender.idle_since >= self._idle_s, "nobody needs it")
        with self._changed:
            return min((blender.idle_since + self._idle_s for blender in self._idle), default=None)

    def close(self) -> None:
        """Ends those that wait; one that renders ends with its attempt, and no new one stays open."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._close_some(lambda _: True, "the node leaves")
        if self._idle_closer:
            self._idle_closer.join(CLOSING_S)

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
        """Takes a place to render in, with the Blender for ``key`` if one is given; others are closed for it."""
        with self._changed:
            gone = [blender for blender in self._idle if not blender.is_alive()]
            self._idle = [blender for blender in self._idle if blender not in gone]
            blender = next((blender for blender in reversed(self._idle) if blender.key == key), None)
            if blender:
                self._idle.remove(blender)
            self._busy += 1
            surplus = self._idle[: max(0, self._busy + len(self._idle) - self._slots)]
            del self._idle[: len(surplus)]
            if blender is None and key:
                blender = WarmBlender(key, self._folder / f"warm-{secrets.token_hex(8)}", guard)
            self._rendering += [blender] if blender else []
        self._tell_if_changed()
        _close_all(gone, "somebody ended it while it waited")
        _close_all(surplus, "another needs its place")
        return blender

    def _warm(
        self, blender: WarmBlender, job: RenderJob, cancel_token: CancelToken, on_progress: Callable[[Progress], None]
    ) -> RenderedFrame:
        try:
            return blender.render(job, cancel_token, on_progress)
        except BaseException as error:
            with self._changed:
                self._rendering.remove(blender)
            blender.close()
            if isinstance(error, AttemptFailed) and cause_of(error.report.kind) is Cause.UNKNOWN:
                # A limit ended it, or it could not be started: the next frame shall not meet the same trap.
                self._stay_cold(key_of(job))
            raise

    def _give_back(self, blender: WarmBlender | None) -> None:
        """The place is free again; ``blender`` waits there for more, unless it is worn out."""
        why = blender.why_close() if blender else ""
        with self._changed:
            self._busy -= 1
            why = "the node leaves" if self._closed else why
            if blender:
                self._rendering.remove(blender)
            if blender and not why:
                blender.idle_since = time.monotonic()
                self._idle.append(blender)
                self._wake_idle_closer()
        self._tell_if_changed()
        if blender and why:
            _close_all([blender], why)

    def _tell_if_changed(self) -> None:
        now = self.warm_scenes()
        with self._changed:
            changed, self._told = now != self._told, now
        if changed:
            self._on_change()

    def _wake_idle_closer(self) -> None:
        self._changed.notify_all()
        if self._idle_closer is None:
            self._idle_closer = threading.Thread(target=self._close_idle, name="idle blenders", daemon=True)
            self._idle_closer.start()

    def _stay_cold(self, key: Key) -> None:
        with self._changed:
            self._cold[key] = None
            if len(self._cold) > COLD_KEYS:
                self._cold.popitem(last=False)

    def _close_some(self, which: Callable[[WarmBlender], bool], why: str) -> None:
        with self._changed:
            going = [blender for blender in self._idle if which(blender)]
            self._idle = [blender for blender in self._idle if blender not in going]
        _close_all(going, why)
        self._tell_if_changed()

    def _close_idle(self) -> None:
        while not self._closed:
            due = self.close_idle_once(time.monotonic())
            with self._changed:
                if not self._closed:
                    self._changed.wait(None if due is None else max(0.0, due - time.monotonic()))


def _close_all(blenders: Iterable[WarmBlender], why: str) -> None:
    for blender in blenders:
        log.info("a warm Blender is closed after %d frame(s): %s", blender.frames, why)
        blender.close()


def _cold_after_all(
    refusal: NotReusable | WarmFailed,
    job: RenderJob,
    cancel_token: CancelToken,
    guard: OrphanGuard,
    on_progress: Callable[[Progress], None],
) -> RenderedFrame:
    if isinstance(refusal, NotReusable):
        log.info("%s is rendered by one Blender per frame: it has %s", job.scene.name, refusal)
        return runner.render(job, cancel_token, guard, on_progress)
    log.warning(
        "frame %s of %s failed in a warm Blender (%s): rendered again, and from now on, by one Blender per frame",
        job.frame,
        job.scene.name,
        refusal.reason,
    )
    try:
        return runner.render(job, cancel_token, guard, on_progress)
    except AttemptFailed as failed:
        before = f"\n# before, in a warm Blender: {refusal.reason}\n{refusal.log_text[-WARM_LOG_CHARS:]}"
        raise AttemptFailed(replace(failed.report, log=failed.report.log + before)) from None


def _is_scene(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return looks_like_a_scene(file.read(BLEND_HEAD_BYTES))
    return False
