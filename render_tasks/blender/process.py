"""A renderer's process: its folder, its start, its output and its end.

One folder holds all that a renderer writes::

    out/frame_0340.png      the picture, named by Blender
    tmp/                    temporary files and the crash report
    config/ scripts/ ...    Blender's user folders: nothing of the PC's owner leaks in or out
    script.py server.py     what -P runs

The renderer has the lowest CPU priority and a session of its own, so that Ctrl+C in the worker's terminal does not
reach it. Its environment carries a random mark (see :mod:`render_tasks.blender.orphan_guard`) and none of the farm's
secrets. It runs in a sandbox (:mod:`render_tasks.blender.sandbox`), in which this folder is all that it may write.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import psutil

from render_tasks.archives.extraction import THIS_PC
from render_tasks.blender.output.left_files import OUT, TEMPORARY
from render_tasks.errors import AttemptFailed
from render_tasks.untrusted.removal import empty_folder
from sheepfold.archives.launchers import is_launcher
from sheepfold.blender import SETTING
from sheepfold.contract.api_messages import FailureKind

from .environment import USER_FOLDERS, environment, renderer_binary
from .installed import installed_blender
from .orphan_guard import OrphanGuard, kill_marked
from .render_job import RenderJob
from .sandbox.levels import Level
from .sandbox.sandbox import Sandbox
from .sandbox.view import View
from .startup_script import our_script

#: The last output of a renderer that ended, unless a stray child holds the pipe open.
LAST_OUTPUT_S = 2
#: A process that was killed is gone in a blink, unless it waits for a disk or a driver that hangs.
GONE_WITHIN_S = 10
_READ_BYTES = 64 * 1024
#: Starts every renderer: a sandbox ends with the thread that started it, and this one ends with the worker.
_STARTER = ThreadPoolExecutor(1, "renderer start")


class RendererProcess:
    """One renderer with its pipes: started once, ended once; used by one thread beside its reading thread.

    ``on_output`` is given what the renderer prints, cut anywhere, in the reading thread.
    """

    def __init__(self, folder: Path, guard: OrphanGuard, on_output: Callable[[bytes], None]) -> None:
        self.folder = folder
        #: The renderer starts the PC's own Blender (:mod:`sheepfold.archives.launchers`).
        self.is_launcher = False
        self._guard, self._on_output = guard, on_output
        self._mark = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._sandbox: Sandbox | None = None

    @property
    def pid(self) -> int:
        """Process id of the renderer, which must have been started."""
        assert self._process
        return self._process.pid

    @property
    def is_started(self) -> bool:
        """Whether :meth:`start` succeeded, whatever became of the process since."""
        return self._process is not None

    def start(self, argv: list[str], job: RenderJob, binary: Path, *, stdin: int = subprocess.DEVNULL) -> None:
        """Starts it in its folder. Raises AttemptFailed; :meth:`end` is due then, too."""
        self.is_launcher = is_launcher(binary)
        self._guard.about_to_start(self._mark)
        inside = environment(job.renderer, self.folder, self._mark)
        reads = [job.renderer, job.scene_folder]
        if self.is_launcher and job.sandbox.level is not Level.NONE and (blender := installed_blender()):
            inside[SETTING] = str(blender)
            reads.append(blender.parent)
        view = job.sandbox.view(self.folder, reads, gpu=job.gpu)
        self._sandbox = job.sandbox
        self._process = _popen(argv, job.sandbox, view, inside, stdin=stdin)
        self._guard.started(self._mark, self._process.pid)
        self._reader = threading.Thread(target=self._read, name="renderer output", daemon=True)
        self._reader.start()

    def send(self, line: bytes) -> None:
        """Writes to its standard input; a renderer that has ended takes nothing, which :meth:`has_exited` tells."""
        assert self._process
        assert self._process.stdin
        with contextlib.suppress(OSError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def has_exited(self, timeout_s: float = 0) -> bool:
        """Whether it ended by itself within ``timeout_s``."""
        assert self._process
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def exit_code(self) -> int:
        """As :attr:`subprocess.Popen.returncode` gives it, after the end; of one that hangs in the system: killed."""
        assert self._process
        return -signal.SIGKILL if self._process.poll() is None else self._process.returncode

    def drain(self) -> None:
        """Waits until its last output was read, at most :data:`LAST_OUTPUT_S`."""
        if self._reader:
            self._reader.join(LAST_OUTPUT_S)

    def end(self) -> None:
        """Kills what is left of it and its children; when this returns, its output was read."""
        end_tree(self._mark, self._process)
        self._guard.over(self._mark)
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):  # killed, and the system does not let it go
                self._process.wait(GONE_WITHIN_S)
            if self._process.stdin:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
        if self._sandbox:
            self._sandbox.ended(self._mark)
        self.drain()

    def _read(self) -> None:
        assert self._process
        output = cast("io.BufferedReader", self._process.stdout)
        with contextlib.suppress(OSError, ValueError):
            while chunk := output.read1(_READ_BYTES):
                self._on_output(chunk)


def binary_of(job: RenderJob) -> Path:
    """The renderer to start. Raises AttemptFailed when an archive does not hold what the order names."""
    if not job.scene.is_file():
        raise AttemptFailed.because(FailureKind.BAD_ARCHIVE, f"the scene archive holds no {job.scene.name}")
    binary = renderer_binary(job.renderer)
    if not binary.is_file():
        raise AttemptFailed.because(FailureKind.BAD_ARCHIVE, f"the renderer archive holds no {binary.name}")
    return binary


def prepare_folder(folder: Path, job: RenderJob) -> Path:
    """Makes a renderer's folder, empty but for the scripts; returns the one for ``-P``."""
    empty_folder(folder)
    for name in (OUT, TEMPORARY, *USER_FOLDERS):
        (folder / name).mkdir()
    server_script = folder / "server.py"
    server_script.write_text(job.script, "utf-8")
    script = folder / "script.py"
    script.write_text(our_script(server_script, folder / "tmp", gpu=job.gpu), "utf-8")
    return script


def _popen(
    argv: list[str], sandbox: Sandbox, view: View, inside: Mapping[str, str], *, stdin: int
) -> subprocess.Popen[bytes]:
    """Starts a renderer; its output is one pipe. Raises AttemptFailed."""
    try:
        with sandbox.start(argv, view, inside) as start:
            return _STARTER.submit(
                subprocess.Popen,
                start.argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=view.home,
                env=start.environment,
                pass_fds=start.descriptors,
                start_new_session=True,
                creationflags=getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)
                | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            ).result()
    except OSError as error:
        reason = f"the renderer cannot be started: {os.strerror(error.errno or 0)}"
        kind = FailureKind.FOLDER if error.errno in THIS_PC else FailureKind.BAD_ARCHIVE
        raise AttemptFailed.because(kind, reason) from None


def end_tree(mark: str, process: subprocess.Popen[bytes] | None) -> None:
    """Kills what is left of a renderer. The pid of a process already waited for may be somebody else's by now."""
    pid = process.pid if process and process.returncode is None else 0
    if os.name == "posix":
        kill_marked({mark: pid})
    if os.name == "posix" or not pid:
        return
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process_left in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.Error):
                process_left.kill()
