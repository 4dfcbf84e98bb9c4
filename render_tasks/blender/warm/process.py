"""One Blender that stays open with its scene: started once, then told one frame after the other.

Its folder (see :mod:`render_tasks.blender.process`) is its own and lasts as long as it does; each frame has a folder in
there, from which its picture is copied to the folder of its attempt. Whoever holds a :class:`WarmBlender` uses it
alone. After any other end of :meth:`render` than a picture it is of no more use and must be closed.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from render_tasks.blender.command_line import frame_number
from render_tasks.blender.memory import take_peak
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.output.diagnosis import one_line, scene_fault
from render_tasks.blender.output.left_files import LOOK_WITHIN_S, OUT, find_picture
from render_tasks.blender.output.progress import Progress
from render_tasks.blender.process import RendererProcess, binary_of, prepare_folder
from render_tasks.blender.render_job import PREFIX, RenderedFrame, RenderJob
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed, NotReusable, WarmFailed
from render_tasks.untrusted.deadline import within
from render_tasks.untrusted.files import open_file
from render_tasks.untrusted.removal import empty_folder, remove
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.failure_causes import Cause, cause_of

from .command_line import expand_warm
from .frame import WarmFrame
from .wire import Replies, Reply, ReplyKind, frame_order, hello

#: Whatever Blender and its add-ons leak goes with the process. Starting anew is paid by 250 frames: a scene that loads
#: for a minute and renders for ten seconds loses 2.4 %.
FRAMES_AT_MOST = 250
#: Grown by half since its first frame: it leaks, or keeps what no later frame needs ...
GROWN_BY = 1.5
#: ... which is worth a start only where it takes memory that a PC's owner would miss, or half of what it may hold.
SMALL_KB = 2 * 1024**2
_COPY_BYTES = 1024 * 1024
_DRIVER = Path(__file__).with_name("driver.py")


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


class WarmBlender:
    """A Blender, its pipes, its folder. Used by one thread at a time beside its reading thread."""

    def __init__(self, key: Hashable, home: Path, guard: OrphanGuard) -> None:
        self.key, self.frames = key, 0
        #: The archives it lives on.
        self.folders: tuple[Path, ...] = ()
        #: Monotonic seconds since which nobody has used it.
        self.idle_since = 0.0
        self._home = home
        self._word = secrets.token_hex(16)
        self._replies = Replies(self._word, self._on_noise, self._on_reply)
        self._renderer = RendererProcess(home, guard, self._replies.feed)
        self._frame: WarmFrame | None = None
        #: What it held after its first frame, and after its last one.
        self._first_kb = self._held_kb = 0
        #: Of the kB it holds then, so many are not worth a start.
        self._small_kb = SMALL_KB

    def render(
        self, job: RenderJob, cancel_token: CancelToken, on_progress: Callable[[Progress], None]
    ) -> RenderedFrame:
        """Renders one frame; ``on_progress`` is called first when it begins.

        Raises AttemptDropped when ``cancel_token`` is set, AttemptFailed when a limit ended it, WarmFailed,
        NotReusable.
        """
        if cancel_token.is_cancelled():
            raise AttemptDropped(cancel_token.reason)
        number = frame_number(job.frame)
        empty_folder(job.scratch)
        self._frame = frame = WarmFrame(job, is_first=self.frames == 0, on_progress=on_progress)
        self.frames += 1
        frame.run.begin()
        if not self._renderer.is_started:
            self._start(job)
        folder = self._home / f"frame-{self.frames}"
        (folder / OUT).mkdir(parents=True)
        self._renderer.send(frame_order(self.frames, number, str(folder / OUT / PREFIX)))
        frame.run.tell()
        frame.run.watch(self._renderer, cancel_token, lambda seconds: frame.is_over(self._renderer, seconds))
        if cancel_token.is_cancelled():
            raise AttemptDropped(cancel_token.reason)
        if frame.run.limit_hit:
            raise self._at_limit(frame, *frame.run.limit_hit)
        held = take_peak(self._renderer.pid)
        frame.run.note_peak(held.peak_kb)
        self._held_kb = held.now_kb
        self._first_kb = self._first_kb or held.now_kb
        return within(
            LOOK_WITHIN_S, lambda: self._result(job, frame, folder), cancel_token, doing="looking for the picture"
        )

    def is_alive(self) -> bool:
        """Whether it was started and has not exited."""
        return self._renderer.is_started and not self._renderer.has_exited()

    def why_close(self) -> str:
        """Why it should make way for a new one; empty when it may stay open."""
        if not self.is_alive():
            return "it ended"
        if self.frames >= FRAMES_AT_MOST:
            return f"it has rendered {self.frames} frames"
        if self._held_kb > max(self._small_kb, self._first_kb * GROWN_BY):
            return f"it grew from {self._first_kb // 1024} to {self._held_kb // 1024} MB"
        return ""

    def close(self) -> None:
        """Ends it at once, with every process of its tree, and takes its folder away."""
        self._renderer.end()
        remove(self._home)

    def _start(self, job: RenderJob) -> None:
        self.folders = (job.renderer, job.scene_folder)
        self._small_kb = min(SMALL_KB, (job.memory_limit_kb or 2 * SMALL_KB) // 2)
        binary = binary_of(job)
        script = prepare_folder(self._home, job)
        # A copy: a renderer in a sandbox sees its own folder and none of ours.
        driver = self._home / "driver.py"
        shutil.copyfile(_DRIVER, driver)
        argv = expand_warm(
            job.command_line,
            binary=binary,
            scene=job.scene,
            script=script,
            prefix=self._home / OUT / PREFIX,
            driver=driver,
            cores=job.cores,
        )
        self._renderer.start(argv, job, binary, stdin=subprocess.PIPE)
        self._renderer.send(hello(self._word))

    def _at_limit(self, frame: WarmFrame, kind: FailureKind, reason: str) -> WarmFailed | AttemptFailed:
        if kind is FailureKind.OUT_OF_MEMORY and self.frames > 1:
            # The frames before may have left something behind: a Blender of the frame's own may need less.
            return WarmFailed(reason, frame.run.log_text())
        return AttemptFailed(frame.run.report(kind, reason))

    def _result(self, job: RenderJob, frame: WarmFrame, folder: Path) -> RenderedFrame:
        reply, log_text = frame.reply, frame.run.log_text()
        if reply is None:
            raise self._after_exit(frame)
        if reply.kind is ReplyKind.UNSUITED:
            raise NotReusable(reply.why)
        if reply.kind is ReplyKind.FAILED:
            if fault := scene_fault(one_line(reply.why), log_text):
                raise AttemptFailed(frame.run.report(*fault))
            raise WarmFailed(one_line(reply.why), log_text)
        picture = find_picture(folder, frame_number(job.frame), frame.run.log_text)
        if picture is None:
            raise WarmFailed("it left no picture", log_text)
        return frame.run.rendered(_copied(picture, folder, job.scratch))

    def _after_exit(self, frame: WarmFrame) -> WarmFailed | AttemptFailed:
        """Why it ended without a reply; a Blender of the frame's own is only worth a start where that is uncertain."""
        report = frame.run.exit_report(self._renderer, is_whole_log=False)
        if cause_of(report.kind) is Cause.UNKNOWN:
            return WarmFailed(report.reason, report.log)
        return AttemptFailed(report)

    # In the reading thread.

    def _on_noise(self, noise: bytes) -> None:
        if self._frame:
            self._frame.feed(noise)

    def _on_reply(self, reply: Reply) -> None:
        if self._frame and reply.number == self.frames:
            self._frame.end(reply)


def _copied(picture: Path, folder: Path, scratch: Path) -> Path:
    """The picture as it is now in the attempt's folder: of the one in ``folder`` Blender may still hold the file open.

    Raises UnsafeFile and OSError.
    """
    copy = scratch / picture.name
    with open_file(folder, OUT, picture.name) as source, copy.open("xb") as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)
    remove(folder)
    return copy
