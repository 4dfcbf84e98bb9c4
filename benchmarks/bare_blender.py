"""The machine's own limit: Blender by itself, one process for all frames, no farm around it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab.server.protocol.render_script import script_for
from sheepfold.blender import find_blender, why_not_found

ROOT = Path(__file__).parents[1]
LIMIT_S = 300
#: ``Time: 00:00.46 (Saving: 00:00.00)``, once per frame.
_FRAME_TIME = re.compile(r"^ ?Time: (?:(\d+):)?(\d+):(\d+\.\d+) \(Saving", re.M)


def local_blender() -> str:
    """Path of the Blender of this PC; ends the program when there is none."""
    blender = find_blender()
    if blender is None:
        raise SystemExit(why_not_found())
    return str(blender)


def demo_scene(blender: str, folder: Path) -> Path:
    """The lab's demo scene: light Cycles frames of 320 × 180 pixels with 16 samples."""
    scene = folder / "demo.blend"
    maker = [blender, "-b", "--factory-startup", "-P", str(ROOT / "lab" / "demo_scene" / "scene.py"), "--", str(scene)]
    subprocess.run(maker, check=True, capture_output=True, timeout=LIMIT_S)
    return scene


def with_samples(blender: str, scene: Path, samples: int) -> Path:
    """The same scene, heavier."""
    heavy = scene.with_name(f"{scene.stem}-{samples}.blend")
    change = f"import bpy; bpy.context.scene.cycles.samples = {samples}"
    change += f"; bpy.ops.wm.save_as_mainfile(filepath={str(heavy)!r})"
    subprocess.run(
        [blender, "-b", str(scene), "--python-expr", change], check=True, capture_output=True, timeout=LIMIT_S
    )
    return heavy


class BareTimes:
    """Blender processes that render side by side what the farm renders."""

    def __init__(self, blender: str, scene: Path, folder: Path, *, threads: int | None) -> None:
        self._blender, self._scene, self._folder, self._threads = blender, scene, folder, threads
        folder.mkdir(parents=True, exist_ok=True)
        self._script = folder / "server.py"
        self._script.write_text(script_for(use_gpu=False))

    def render(self, *ranges: tuple[int, int]) -> float:
        """Seconds until the last of these ranges, a process each, is rendered."""
        began = time.monotonic()
        processes = [self._start(number, *frames) for number, frames in enumerate(ranges)]
        try:
            codes = [process.wait(LIMIT_S) for process in processes]
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        took_s = time.monotonic() - began
        if any(codes):
            raise SystemExit(f"Blender ended with {codes}: see {self._folder}")
        return took_s

    def frame_times_s(self, number: int = 0) -> Sequence[float]:
        """What Blender itself says each frame of the last run took."""
        found = _FRAME_TIME.findall((self._folder / f"bare-{number}.log").read_text("utf-8", "replace"))
        return [int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds) for hours, minutes, seconds in found]

    def _start(self, number: int, first: int, last: int) -> subprocess.Popen[bytes]:
        argv = [self._blender, *(["-t", str(self._threads)] if self._threads else [])]
        argv += ["--factory-startup", "--disable-autoexec", "-b", str(self._scene), "-P", str(self._script)]
        argv += ["-o", str(self._folder / "frame_"), "-x", "1", "-s", str(first), "-e", str(last), "-a"]
        with (self._folder / f"bare-{number}.log").open("wb") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def say(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)
