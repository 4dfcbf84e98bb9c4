"""A renderer's process: the folder it lives in, its start and its end.

One folder holds all that a renderer writes::

    out/frame_0340.png      the picture, named by Blender
    tmp/                    temporary files and the crash report
    config/ scripts/ ...    Blender's user folders: nothing of the PC's owner leaks in or out
    script.py server.py     what -P runs

The renderer has the lowest CPU priority and a session of its own, so that Ctrl+C in the worker's terminal does not
reach it. Its environment carries a random mark (see :mod:`render_tasks.blender.orphan_guard`) and none of the farm's
secrets.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import psutil

from render_tasks.archives.extraction import THIS_PC
from render_tasks.errors import AttemptFailed
from sheepfold.contract.api_messages import FailureKind

from .environment import USER_FOLDERS, environment, renderer_binary
from .orphan_guard import kill_marked
from .render_job import RenderJob
from .startup_script import our_script


def binary_of(job: RenderJob) -> Path:
    """The renderer to start. Raises AttemptFailed when an archive does not hold what the order names."""
    if not job.scene.is_file():
        raise AttemptFailed.because(FailureKind.BAD_ARCHIVE, f"the scene archive holds no {job.scene.name}")
    binary = renderer_binary(job.renderer)
    if not binary.is_file():
        raise AttemptFailed.because(FailureKind.BAD_ARCHIVE, f"the renderer archive holds no {binary.name}")
    return binary


def furnish(folder: Path, job: RenderJob) -> Path:
    """Makes a renderer's folder, empty but for the scripts; returns the one for ``-P``."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("out", "tmp", *USER_FOLDERS):
        (folder / name).mkdir(parents=True)
    server_script = folder / "server.py"
    server_script.write_text(job.script, "utf-8")
    script = folder / "script.py"
    script.write_text(our_script(server_script, folder / "tmp", gpu=job.gpu), "utf-8")
    return script


def start(
    argv: list[str], *, folder: Path, renderer: Path, mark: str, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Starts a renderer in its folder; its output is one pipe. Raises AttemptFailed."""
    nice = shutil.which("nice") if os.name == "posix" else None
    try:
        return subprocess.Popen(
            [nice, "-n", "19", *argv] if nice else argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(renderer, folder, mark),
            start_new_session=True,
            creationflags=getattr(subprocess, "IDLE_PRIORITY_CLASS", 0)
            | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
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
        for one in [*root.children(recursive=True), root]:
            with contextlib.suppress(psutil.Error):
                one.kill()


def crash_reports(folder: Path) -> list[Path]:
    """What a Blender that crashed wrote down."""
    return sorted((folder / "tmp").rglob("*.crash.txt"))


def first_of(reports: list[Path]) -> str:
    """The first of them that can be read, for a log."""
    for path in reports:
        with contextlib.suppress(OSError), path.open("rb") as file:
            return f"\n# {path.name}\n" + file.read(64 * 1024).decode("utf-8", "replace")
    return ""
