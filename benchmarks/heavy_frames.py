"""Do heavy frames keep a slot busy? The share of the time that it renders, first frame's start to last one's end.

    .venv/bin/python -m benchmarks.heavy_frames [--frames 6] [--seconds 11] [--keep DIR]

The demo scene gets as many samples as make a frame of about ``--seconds`` on this machine (measured with a bare
Blender, at least 10 s each), and goes through a whole farm with one slot. The time that is not rendering is what lies
between two frames. A bare Blender renders the same frames for comparison. The exit code is 1 when the slot was idle for
more than the goal allows, or a frame was too light to count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare_blender import BareTimes, demo_scene, local_blender, say, with_samples
from benchmarks.frame_timeline import FrameTimeline, idle_farm, send_through
from lab.submit.packing import pack_scene

#: Share of the time that the slot renders, at least.
GOAL = 0.98
HEAVY_S = 10.0
LIMIT_S = 300
#: Two trials give what a sample costs and what a frame costs without any.
TRIALS = (16, 160)


@dataclass(frozen=True, kw_only=True)
class HeavyFrameFigures:
    """One run."""

    timeline: FrameTimeline
    samples: int
    #: Seconds of a bare Blender for the same frames.
    bare_s: float

    @property
    def share(self) -> float:
        return self.timeline.rendering_share

    @property
    def lightest_s(self) -> float:
        """Seconds of the shortest frame."""
        return min(frame.picture_at - frame.began_at for frame in self.timeline.frames)

    def table(self) -> str:
        """For a person."""
        frames = self.timeline.frames
        window_s = max(frame.picture_at for frame in frames) - min(frame.began_at for frame in frames)
        gaps = self.timeline.gaps_ms()
        rows = [
            ("first render begins → last picture", f"{window_s:.2f} s"),
            ("a bare Blender, same frames", f"{self.bare_s:.2f} s (ratio {window_s / self.bare_s:.3f})"),
            ("shortest frame", f"{self.lightest_s:.2f} s (goal {HEAVY_S:g})"),
            ("picture written → next frame", f"{statistics.median(gaps):.0f} ms median, {max(gaps):.0f} ms at most"),
            ("share of the time the slot rendered", f"{self.share:.2%} (goal {GOAL:.0%}, limit 100 %)"),
        ]
        lines = [f"{len(frames)} heavy frames, 1 slot, {self.samples} samples", ""]
        return "\n".join(lines + [f"{name:38}{figure}" for name, figure in rows])


def measure(folder: Path, *, frames: int = 6, seconds: float = 11.0) -> HeavyFrameFigures:
    """Calibrates, renders through a farm and without one; nothing is left running."""
    blender = local_blender()
    light = demo_scene(blender, folder)
    samples = _samples_for(seconds, blender, light, folder)
    say(f"{samples} samples make a frame of {seconds:g} s")
    heavy = with_samples(blender, light, samples)
    place = folder / "farm"
    place.mkdir()
    with idle_farm(place, blender, slots=1, cores=None) as farm:
        packed = pack_scene(heavy, folder / "scene.zip")
        timeline = send_through(farm, packed, frames=frames, slots=1, limit_s=LIMIT_S)
    bare_s = BareTimes(blender, heavy, folder / "bare", threads=None).render((1, frames))
    return HeavyFrameFigures(timeline=timeline, samples=samples, bare_s=bare_s)


def _samples_for(seconds: float, blender: str, light: Path, folder: Path) -> int:
    times = []
    for samples in TRIALS:
        bare = BareTimes(blender, with_samples(blender, light, samples), folder / "trial", threads=None)
        bare.render((1, 2))
        times.append(min(bare.frame_times_s()))
    each = (times[1] - times[0]) / (TRIALS[1] - TRIALS[0])
    return TRIALS[0] + max(1, round((seconds - times[0]) / each))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when the goal was met."""
    parser = argparse.ArgumentParser(description="Measures how busy heavy frames keep a slot.")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=11.0, help="that one frame should take")
    parser.add_argument("--keep", type=Path, help="keep logs, ledger and pictures here (must be empty)")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sheepfold-heavy-") as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, frames=given.frames, seconds=given.seconds)
    print(found.table(), flush=True)
    return 0 if found.share >= GOAL and found.lightest_s >= HEAVY_S else 1


if __name__ == "__main__":
    sys.exit(main())
