"""One Blender that stays open with its scene: started once, then told one frame after the other.

Its folder (see :mod:`render_tasks.blender.process`) is its own and lasts as long as it does; each picture goes to the
``out`` folder of its attempt. Whoever holds a :class:`WarmBlender` uses it alone. After any other end of :meth:`render`
than a picture it is of no more use and must be closed.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import NoReturn

from render_tasks.blender.command_line import frame_number, newest_picture
from render_tasks.blender.memory import resident_kb, take_peak_kb
from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.output.diagnosis import ExitEvidence, diagnose, one_line, scene_fault
from render_tasks.blender.output.progress import Progress
from render_tasks.blender.process import binary_of, crash_reports, end_tree, first_of, furnish, start
from render_tasks.blender.render_job import PREFIX, RenderedFrame, RenderJob
from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.failure_causes import Cause, cause_of
from sheepfold.hardware import usable_ram
from sheepfold.launchers import is_launcher

from .command_line import expand_warm
from .frame import Frame
from .wire import Replies, Reply, ReplyKind, frame_order, hello

#: How soon a stop, or an end without a word, is noticed; a reply is noticed at once.
LOOK_EVERY_S = 0.1
#: With a look's length twice a second at least: a limit has to be noticed before the PC swaps.
MEASURE_EVERY_S = 0.3
#: The last output of a Blender that ended, unless a stray child holds the pipe open.
LAST_OUTPUT_S = 2
#: Whatever Blender and its add-ons leak goes with the process. Starting anew is paid by 250 frames: a scene that loads
#: for a minute and renders for ten seconds loses 2.4 %.
FRAMES_AT_MOST = 250
#: Grown by half since its first frame: it leaks, or keeps what no later frame needs ...
GROWN_BY = 1.5
#: ... which is worth a start only where it takes memory that a PC's owner would miss, or half of what it may hold.
SMALL_KB = 2 * 1024**2
_DRIVER = Path(__file__).with_name("driver.py")


class WarmFailed(Exception):
    """No picture came of it; a Blender of the frame's own may do better."""

    def __init__(self, reason: str, log_text: str) -> None:
        self.reason, self.log_text = reason, log_text
        super().__init__(reason)


class NotReusable(Exception):
    """The driver says that this scene must not be rendered in an open Blender."""


class WarmBlender:
    """A Blender, its pipes, its folder."""

    def __init__(self, key: Hashable, home: Path, guard: OrphanGuard) -> None:
        self.key, self.frames = key, 0
        #: The archives it lives on.
        self.folders: tuple[Path, ...] = ()
        #: Monotonic time since which nobody has used it.
        self.idle_since = 0.0
        self._home, self._guard = home, guard
        self._mark, self._word = secrets.token_hex(16), secrets.token_hex(16)
        self._replies = Replies(self._word, self._on_noise, self._on_reply)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._frame: Frame | None = None
        self._first_kb = 0
        self._is_launcher = False
        #: Of the kB it holds while it waits, so many are not worth a start.
        self._small_kb = SMALL_KB

    def render(self, job: RenderJob, switch: CancelToken, on_progress: Callable[[Progress], None]) -> RenderedFrame:
        """Renders one frame; ``on_progress`` is called first when it begins.

        Raises AttemptDropped when ``switch`` stopped it, AttemptFailed when a limit ended it, WarmFailed, Unsuited.
        """
        if switch.is_cancelled():
            raise AttemptDropped(switch.reason)
        number = frame_number(job.frame)
        out = job.scratch / "out"
        shutil.rmtree(job.scratch, ignore_errors=True)
        out.mkdir(parents=True)
        self._frame = frame = Frame(job, is_first=self.frames == 0, on_progress=on_progress)
        self.frames += 1
        frame.begin()
        process = self._process or self._start(job)
        self._say(process, frame_order(self.frames, number, str(out / PREFIX)))
        frame.is_told()
        self._watch(process, frame, switch)
        if switch.is_cancelled():
            raise AttemptDropped(switch.reason)
        frame.tree_kb = max(frame.tree_kb, take_peak_kb(process.pid))
        return self._judged(process, frame, newest_picture(out, PREFIX, job.frame))

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def why_close(self) -> str:
        """Why it should make way for a new one; empty when it may stay open."""
        process = self._process
        if process is None or not self.is_alive():
            return "it ended"
        if self.frames >= FRAMES_AT_MOST:
            return f"it has rendered {self.frames} frames"
        held_kb = resident_kb(process.pid)
        self._first_kb = self._first_kb or held_kb
        if held_kb > max(self._small_kb, self._first_kb * GROWN_BY):
            return f"it grew from {self._first_kb // 1024} to {held_kb // 1024} MB"
        return ""

    def close(self) -> None:
        """Ends it at once, with every process of its tree, and takes its folder away."""
        process = self._process
        end_tree(self._mark, process)
        self._guard.over(self._mark)
        if process:
            process.wait()
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        if self._reader:
            self._reader.join(LAST_OUTPUT_S)
        shutil.rmtree(self._home, ignore_errors=True)

    def _start(self, job: RenderJob) -> subprocess.Popen[bytes]:
        self.folders = (job.renderer, job.scene)
        self._small_kb = min(SMALL_KB, (job.memory_limit_kb or 2 * SMALL_KB) // 2)
        binary = binary_of(job)
        self._is_launcher = is_launcher(binary)
        script = furnish(self._home, job)
        # A copy: a renderer in a sandbox sees its own folder and none of ours.
        driver = self._home / "driver.py"
        shutil.copyfile(_DRIVER, driver)
        argv = expand_warm(
            job.command_line,
            binary=binary,
            scene=job.scene,
            script=script,
            prefix=self._home / "out" / PREFIX,
            driver=driver,
            cores=job.cores,
        )
        self._guard.about_to_start(self._mark)
        process = start(argv, folder=self._home, renderer=job.renderer, mark=self._mark, stdin=subprocess.PIPE)
        self._process = process
        self._guard.started(self._mark, process.pid)
        self._reader = threading.Thread(target=self._stream, args=(process,), name="warm blender", daemon=True)
        self._reader.start()
        self._say(process, hello(self._word))
        return process

    def _say(self, process: subprocess.Popen[bytes], line: bytes) -> None:
        assert process.stdin
        with contextlib.suppress(OSError):  # it has ended, which is noticed next
            process.stdin.write(line)
            process.stdin.flush()

    def _watch(self, process: subprocess.Popen[bytes], frame: Frame, switch: CancelToken) -> None:
        measured = time.monotonic()
        while not frame.over.wait(LOOK_EVERY_S):
            if switch.is_cancelled():
                return
            if frame.is_late():
                raise AttemptFailed(frame.too_late())
            if process.poll() is not None:
                assert self._reader
                self._reader.join(LAST_OUTPUT_S)
                frame.end(None)
                return
            if time.monotonic() - measured >= MEASURE_EVERY_S:
                if reason := frame.measure(process.pid):
                    self._over_limit(frame, reason)
                measured = time.monotonic()

    def _over_limit(self, frame: Frame, reason: str) -> NoReturn:
        if self.frames == 1:
            raise AttemptFailed(frame.ended_by_us(FailureKind.OUT_OF_MEMORY, reason))
        # The frames before may have left something behind: a Blender of the frame's own may need less.
        raise WarmFailed(reason, frame.output.text())

    def _judged(self, process: subprocess.Popen[bytes], frame: Frame, picture: Path | None) -> RenderedFrame:
        reply = frame.reply
        if reply is None:
            raise self._end_of(process, frame)
        if reply.kind is ReplyKind.UNSUITED:
            raise NotReusable(reply.why)
        if reply.kind is ReplyKind.FAILED:
            log_text = frame.output.text()
            if fault := scene_fault(one_line(reply.why), log_text):
                raise AttemptFailed(frame.ended_by_us(*fault))
            raise WarmFailed(one_line(reply.why), log_text)
        if picture is None:
            raise WarmFailed("it left no picture", frame.output.text())
        return frame.rendered(picture)

    def _end_of(self, process: subprocess.Popen[bytes], frame: Frame) -> WarmFailed | AttemptFailed:
        """Why it ended without a word; a Blender of the frame's own is only worth a start where that is uncertain."""
        reports, log_text = crash_reports(self._home), frame.output.text()
        remains = ExitEvidence(
            exit_code=process.wait(),
            ran_s=frame.took_s,
            log=log_text,
            crash_file=bool(reports),
            memory_kb=frame.memory_kb,
            ram_kb=usable_ram() // 1024,
            is_launcher=self._is_launcher,
        )
        kind, reason = diagnose(remains)
        if cause_of(kind) is Cause.UNKNOWN:
            return WarmFailed(reason, log_text + first_of(reports))
        return AttemptFailed(frame.ended_by_us(kind, reason))

    # In the reading thread.

    def _stream(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        with contextlib.suppress(OSError, ValueError):
            while chunk := process.stdout.read1(65536):  # type: ignore[attr-defined]
                self._replies.feed(chunk)

    def _on_noise(self, noise: bytes) -> None:
        frame = self._frame
        if frame and not frame.over.is_set():
            frame.output.feed(noise)

    def _on_reply(self, reply: Reply) -> None:
        if self._frame and reply.number == self.frames:
            self._frame.end(reply)
