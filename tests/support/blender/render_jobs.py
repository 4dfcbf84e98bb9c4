"""Render jobs for a real Blender, for the null renderer, and for a few lines of shell."""

from __future__ import annotations

import contextlib
import os
import textwrap
import time
from pathlib import Path

import psutil

from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.output.progress import Progress
from render_tasks.blender.runner import RenderedFrame, RenderJob, render
from render_tasks.blender.sandbox.facts import look_at_host
from render_tasks.blender.sandbox.levels import Level, RenderLimits
from render_tasks.blender.sandbox.sandbox import Sandbox
from render_tasks.cancellation import CancelToken
from tests.support.nodes.null_renderer import COMMAND_LINE, renderer_archive, unpack

LIMITS = RenderLimits(disk_bytes=1024**3)
NO_SANDBOX = Sandbox(level=Level.NONE, host=look_at_host(), limits=LIMITS)
PNG_SCRIPT = """import bpy
if bpy.context.scene.render.image_settings.file_format not in {"BMP", "PNG", "JPEG", "TARGA", "TARGA_RAW"}:
    bpy.context.scene.render.image_settings.file_format = "PNG"
"""


def job(renderer: Path, scene: Path, folder: Path, frame: str = "0007", /, **changes: object) -> RenderJob:
    """A job of a renderer for a scene, in a scratch folder below ``folder``; ``changes`` by the fields' names."""
    settings: dict[str, object] = {
        "renderer": renderer,
        "renderer_md5": "1" * 32,
        "scene_key": "2" * 32,
        "revision": "1",
        "scene": scene,
        "scene_folder": scene.parent,
        "command_line": COMMAND_LINE,
        "script": PNG_SCRIPT,
        "frame": frame,
        "update_method": "remainingtime",
        "gpu": False,
        "cores": None,
        "time_limit_s": None,
        "memory_limit_kb": None,
        "scratch": folder / "attempt",
        "sandbox": NO_SANDBOX,
    }
    return RenderJob(**(settings | changes))  # type: ignore[arg-type]


def run(job: RenderJob, guard: OrphanGuard) -> tuple[RenderedFrame, list[Progress]]:
    progress: list[Progress] = []
    return render(job, CancelToken(), guard, progress.append), progress


def null_job(tmp_path: Path, frame: str, **changes: object) -> RenderJob:
    renderer = unpack(renderer_archive()[1], tmp_path / "renderer")
    scene = tmp_path / "scene.blend"
    scene.write_bytes(b"BLENDER")
    (tmp_path / "scratch").mkdir()
    return job(renderer, scene, tmp_path / "scratch", frame, **changes)


def fake(tmp_path: Path, body: str, **changes: object) -> RenderJob:
    """A renderer that is a few lines of shell."""
    folder = tmp_path / "renderer"
    folder.mkdir()
    (folder / "rend.exe").write_text(f"#!/bin/sh\n{textwrap.dedent(body)}\n")
    (folder / "rend.exe").chmod(0o755)
    scene = tmp_path / "scene.blend"
    scene.write_bytes(b"BLENDER")
    return job(folder, scene, tmp_path, "7", **changes)


def gone_soon(pid: int) -> bool:
    """Within two seconds, which is what is promised of a render that is ended."""
    deadline = time.monotonic() + 2
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return gone(pid)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processes_naming(path: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(path) in " ".join(process.cmdline()):
                found.append(process.pid)
    return found
