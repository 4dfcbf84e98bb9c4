"""How close the whole chain comes to one Blender that is left alone: the price of going through a farm.

    .venv/bin/python -m benchmarks.end_to_end [--pairs 5] [--frames 12] [--slots 1] [--keep DIR] [--sandbox [--tls]]

The same light frames (320 × 180, 16 samples) are rendered twice, by turns: through lab server, coordinator, Redis and
worker, from the first grant to the last validation, with nothing of the scene anywhere on the farm at the start; and by
one bare Blender process per slot with the same threads, which is the limit of this machine. What counts is the ratio.
``frame_timeline.py`` says where the times come from. Without ``--frames`` both cases are measured: 12 frames on one
slot, and 48 on two. The exit code is 1 when a median ratio is above the goal.

``--sandbox`` compares the chain with itself instead: renderers in a sandbox, of the level that ``SHEEPFOLD_SANDBOX``
names, against renderers without one; with ``--tls`` the worker speaks TLS to the coordinator, too, against plain HTTP.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare_blender import BareTimes, demo_scene, local_blender, say
from benchmarks.cpu_contention import CpuContention
from benchmarks.frame_timeline import FrameTimeline, idle_farm, send_through
from lab.submit.packing import pack_scene

#: The chain may take this much of a bare Blender's time.
GOAL = 1.25
#: Median from a picture to the next frame on the same slot, milliseconds.
GAP_GOAL_MS = 50
LIMIT_S = 180
#: The chain with a sandbox may take this much of the chain without one.
SANDBOX_GOAL = 1.02


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is rendered."""

    frames: int
    slots: int

    @property
    def threads(self) -> int | None:
        """Of one renderer; ``None``: as many as it finds."""
        return max(1, (os.cpu_count() or 1) // self.slots) if self.slots > 1 else None

    def ranges(self) -> list[tuple[int, int]]:
        """A bare Blender's frames, for each slot."""
        each = self.frames // self.slots
        return [(slot * each + 1, (slot + 1) * each) for slot in range(self.slots)]


ONE_SLOT, TWO_SLOTS = Case(frames=12, slots=1), Case(frames=48, slots=2)


@dataclass(frozen=True, kw_only=True)
class EndToEndFigures:
    """Pairs of one case."""

    case: Case
    timelines: tuple[FrameTimeline, ...]
    #: Seconds of the bare Blender next to each.
    bare_s: tuple[float, ...]
    #: Share of the machine that others used during each of both.
    others: tuple[tuple[float, float], ...]

    @property
    def ratios(self) -> list[float]:
        return [timeline.took_s / bare for timeline, bare in zip(self.timelines, self.bare_s, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs."""
        return statistics.median(self.ratios)

    @property
    def gap_ms(self) -> float:
        """Median from picture to next frame."""
        return statistics.median(gap for timeline in self.timelines for gap in timeline.gaps_ms())

    def table(self) -> str:
        """For a person."""
        lines = [f"{self.case.frames} frames, {self.case.slots} slot(s), {len(self.bare_s)} pairs", ""]
        lines += [f"{'':34}{'chain s':>9}{'bare s':>9}{'ratio':>8}   others' CPU, chain and bare"]
        for number, (timeline, bare, others) in enumerate(
            zip(self.timelines, self.bare_s, self.others, strict=True), 1
        ):
            figures = f"{timeline.took_s:9.2f}{bare:9.2f}{timeline.took_s / bare:8.2f}"
            lines.append(f"{f'pair {number}':34}{figures}   {others[0]:.0%}, {others[1]:.0%}")
        lines += [
            f"{'median ratio (min to max)':34}{self.ratio:26.2f}  ({min(self.ratios):.2f} to {max(self.ratios):.2f})"
        ]
        lines += [f"{'goal':34}{GOAL:26.2f}", "", *self._steps(), "", *self._gap_lines()]
        return "\n".join(lines)

    def _steps(self) -> list[str]:
        bare = statistics.median(self.bare_s)
        each = [timeline.steps_s() for timeline in self.timelines]
        lines = [f"{'where the time goes (medians)':34}{'s':>9}{'of bare':>9}"]
        for name in each[0]:
            seconds = statistics.median(steps[name] for steps in each)
            lines.append(f"{name:34}{seconds:9.3f}{seconds / bare:9.3f}")
        return lines

    def _gap_lines(self) -> list[str]:
        lines = [f"{'picture written → next frame, ms':34}{'median':>9}{'max':>9}{'gaps':>8}"]
        for name, ready_only in (("all", False), ("the next order was there", True)):
            gaps = [gap for timeline in self.timelines for gap in timeline.gaps_ms(ready_only=ready_only)]
            if gaps:
                lines.append(f"{name:34}{statistics.median(gaps):9.0f}{max(gaps):9.0f}{len(gaps):8}")
        return [*lines, f"{'goal for the median':34}{GAP_GOAL_MS:9}"]


def measure(case: Case, folder: Path, *, pairs: int = 5) -> EndToEndFigures:
    """Chain, bare, chain, bare, ...; nothing is left running."""
    blender = local_blender()
    scene = demo_scene(blender, folder)
    packed = pack_scene(scene, folder / "scene.zip")
    bare = BareTimes(blender, scene, folder / "bare", threads=case.threads)
    timelines: list[FrameTimeline] = []
    bare_s: list[float] = []
    others: list[tuple[float, float]] = []
    for number in range(pairs):
        place = folder / f"farm-{case.frames}-{number}"
        place.mkdir()
        with CpuContention() as first, idle_farm(place, blender, slots=case.slots, cores=case.threads) as farm:
            timelines.append(send_through(farm, packed, frames=case.frames, slots=case.slots, limit_s=LIMIT_S))
        with CpuContention() as second:
            bare_s.append(bare.render(*case.ranges()))
        others.append((first.share, second.share))
        say(f"pair {number + 1}: chain {timelines[-1].took_s:.2f} s, bare {bare_s[-1]:.2f} s")
    return EndToEndFigures(case=case, timelines=tuple(timelines), bare_s=tuple(bare_s), others=tuple(others))


@dataclass(frozen=True, kw_only=True)
class SandboxFigures:
    """Pairs of the chain with a sandbox and without one."""

    case: Case
    sandbox: str
    #: Whether the worker spoke TLS inside, too.
    tls: bool
    inside_s: tuple[float, ...]
    outside_s: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        return [inside / outside for inside, outside in zip(self.inside_s, self.outside_s, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs."""
        return statistics.median(self.ratios)

    def table(self) -> str:
        """For a person."""
        inside = f"SHEEPFOLD_SANDBOX={self.sandbox}{' and TLS' if self.tls else ''}"
        lines = [f"{self.case.frames} frames, {self.case.slots} slot(s), {inside}", ""]
        lines += [f"{'':34}{'with s':>9}{'without s':>11}{'ratio':>8}"]
        for number, (inside, outside) in enumerate(zip(self.inside_s, self.outside_s, strict=True), 1):
            lines.append(f"{f'pair {number}':34}{inside:9.2f}{outside:11.2f}{inside / outside:8.3f}")
        range_text = f"({min(self.ratios):.3f} to {max(self.ratios):.3f})"
        lines += [f"{'median ratio (min to max)':34}{self.ratio:28.3f}  {range_text}"]
        return "\n".join([*lines, f"{'goal':34}{SANDBOX_GOAL:28.2f}"])


def measure_sandbox(case: Case, folder: Path, *, pairs: int = 5, tls: bool = False) -> SandboxFigures:
    """With, without, without, with, ...: what changes in the course of a run is in both. ``tls`` is with only."""
    sandbox = os.environ.get("SHEEPFOLD_SANDBOX", "required")
    blender = local_blender()
    packed = pack_scene(demo_scene(blender, folder), folder / "scene.zip")
    seconds: dict[str, list[float]] = {sandbox: [], "off": []}
    for number in range(pairs):
        for choice in (sandbox, "off") if number % 2 == 0 else ("off", sandbox):
            place = folder / f"farm-{number}-{choice}"
            place.mkdir()
            settings = {"SHEEPFOLD_SANDBOX": choice}
            how = {"environment": settings, "tls": tls and choice == sandbox}
            with idle_farm(place, blender, slots=case.slots, cores=case.threads, **how) as farm:
                passage = send_through(farm, packed, frames=case.frames, slots=case.slots, limit_s=LIMIT_S)
            seconds[choice].append(passage.took_s)
        say(f"pair {number + 1}: with {seconds[sandbox][-1]:.2f} s, without {seconds['off'][-1]:.2f} s")
    inside_s, outside_s = tuple(seconds[sandbox]), tuple(seconds["off"])
    return SandboxFigures(case=case, sandbox=sandbox, tls=tls, inside_s=inside_s, outside_s=outside_s)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when every goal was met."""
    parser = argparse.ArgumentParser(description="Compares the whole chain with one Blender that is left alone.")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--frames", type=int, help="one case of so many frames instead of the two")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--sandbox", action="store_true", help="the chain with a sandbox against the chain without")
    parser.add_argument("--tls", action="store_true", help="with --sandbox: the worker inside speaks TLS, too")
    parser.add_argument("--keep", type=Path, help="keep logs, ledgers and pictures here (must be empty)")
    given = parser.parse_args(argv)
    if given.tls and not given.sandbox:
        parser.error("--tls is measured with --sandbox")
    cases = [Case(frames=given.frames, slots=given.slots)] if given.frames else [ONE_SLOT, TWO_SLOTS]
    met = True
    with tempfile.TemporaryDirectory(prefix="sheepfold-chain-") as temporary:
        for case in cases:
            folder = (given.keep or Path(temporary)) / f"{case.frames}-{case.slots}"
            folder.mkdir(parents=True)
            if given.sandbox:
                inside = measure_sandbox(case, folder, pairs=given.pairs, tls=given.tls)
                print(inside.table(), end="\n\n", flush=True)
                met &= inside.ratio <= SANDBOX_GOAL
                continue
            found = measure(case, folder, pairs=given.pairs)
            print(found.table(), end="\n\n", flush=True)
            met &= found.ratio <= GOAL and found.gap_ms <= GAP_GOAL_MS
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
