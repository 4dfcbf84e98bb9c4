"""Kills a farm's processes at random while its server fails one answer in ten, and counts what became of each frame.

    .venv/bin/python -m benchmarks.chaos [--seed 7] [--frames 300] [--blender-frames 24] [--limit-s 600]

A lab server with random faults, a coordinator with its own Redis and three workers run as real processes. Most frames
are rendered by the scripted renderer of the tests, which takes about a second; the others are the demo scene in a
real Blender. From the first frame to the last, somebody is killed with -9 every few seconds: a worker (which is started
again soon, or stays away until the farm has given it up), the coordinator, or Redis.

The seed decides who is killed when, for how long it stays away, and which exchanges fail; what the kills hit depends on
the machine as well. ``chaos_report.py`` says what is counted and which figures must be zero; the exit code is 1 when
one is not, or when the farm did not finish in time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.chaos_report import ChaosReport, KillOutcome, read_books
from tests.support.farm.faulty_farm import FaultyFarm, Project

ROOT = Path(__file__).parents[1]

WORKERS = ("pc-01", "pc-02", "pc-03")
#: Who is killed, with these odds.
VICTIMS = {"worker": 5, "coordinator": 3, "redis": 2}
#: Most processes are back soon, as with a supervisor; some workers stay away longer than the farm waits for a PC.
BACK_SOON_S = (0.0, 3.0)
STAYS_AWAY_S = (17.0, 22.0)
STAYS_AWAY_SHARE = 0.25
#: A renderer must be gone this long after its worker was killed.
RENDERER_GONE_S = 1.0
#: After the last frame is accepted the ledger still has to hear of it.
SETTLES_WITHIN_S = 60
LOOK_EVERY_S = 0.2
ENVIRONMENT = {
    "SHEEPFOLD_RETRY_WAIT_S": "0.3",
    "SHEEPFOLD_NO_JOB_WAIT_S": "0.3",
    "SHEEPFOLD_HEARTBEAT_S": "5",
    "SHEEPFOLD_MAX_PERIOD_S": "20",
    "SHEEPFOLD_LEASE_GRACE_S": "4",
    "SHEEPFOLD_MAX_FRAME_ERRORS": "3",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run does."""

    seed: int
    frames: int = 300
    blender_frames: int = 24
    #: Seconds the scripted renderer takes for a frame.
    render_s: float = 1.2
    #: Share of the server's answers that fail.
    fault_rate: float = 0.1
    #: Seconds between two kills, from and to.
    pause_s: tuple[float, float] = (4.0, 8.0)
    #: Seconds after which the run has failed.
    limit_s: float = 600


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One kill of the schedule."""

    #: Seconds after the first frame.
    at_s: float
    #: ``worker``, ``coordinator`` or ``redis``.
    kind: str
    #: Which worker.
    pc: str
    #: Seconds until it is started again; Redis is the coordinator's to start.
    away_s: float


def schedule(plan: Plan) -> Iterator[Kill]:
    """Kills without end, the same for the same seed."""
    rng, at_s = random.Random(plan.seed), 0.0
    while True:
        at_s += rng.uniform(*plan.pause_s)
        (kind,) = rng.choices(list(VICTIMS), weights=list(VICTIMS.values()))
        pc, stays_away = rng.choice(WORKERS), rng.random() < STAYS_AWAY_SHARE
        away_s = rng.uniform(*(STAYS_AWAY_S if stays_away and kind == "worker" else BACK_SOON_S))
        yield Kill(at_s=at_s, kind=kind, pc=pc, away_s=away_s)


@dataclass(kw_only=True)
class Chaos:
    """One run on one farm."""

    plan: Plan
    farm: FaultyFarm
    projects: list[Project] = field(default_factory=list)
    killed: list[KillOutcome] = field(default_factory=list)
    #: Process name → when it is started again (monotonic).
    away: dict[str, float] = field(default_factory=dict)
    #: Stored picture → its bytes' hash when it was first seen.
    first_seen: dict[Path, int] = field(default_factory=dict)

    def run(self) -> ChaosReport:
        """Starts the farm, breaks it until every frame is done, and compares what all ends counted."""
        self.farm.begin(
            *WORKERS, server=("--fault-rate", str(self.plan.fault_rate), "--fault-seed", str(self.plan.seed))
        )
        self._submit()
        began = time.monotonic()
        finished = self._break_until_done(began) and self._settle()
        for project in self.projects:
            self._look_at_pictures(project)
        return read_books(
            self.farm, self.projects, self.killed, self.first_seen, took_s=time.monotonic() - began, finished=finished
        )

    def _submit(self) -> None:
        plan = self.plan
        if plan.blender_frames:
            scene = demo_scene(self.farm.folder)
            done = self.farm.run("submit", str(scene), "--frames", f"1-{plan.blender_frames}", "--name", "blender")
            if done.returncode:
                raise SystemExit(f"the demo scene was not taken: {done.stderr}")
            shown = self.farm.api("GET", "/api/projects")["projects"][0]
            self.projects.append(Project(id=shown["id"], name="blender", folder=self.farm.folder))
        self.projects.append(self.farm.submit(f"1-{plan.frames}", seconds=plan.render_s, name="scripted"))

    def _break_until_done(self, began: float) -> bool:
        for kill in schedule(self.plan):
            while time.monotonic() < began + kill.at_s:
                self._start_who_is_due()
                self._note_if_coordinator_answers()
                if self._all_done():
                    return True
                if time.monotonic() > began + self.plan.limit_s:
                    return False
                time.sleep(LOOK_EVERY_S)
            self._kill(kill)
        return False

    def _kill(self, kill: Kill) -> None:
        name = kill.pc if kill.kind == "worker" else kill.kind
        if name in self.away or (name == "redis" and "coordinator" in self.away):
            return  # who is dead cannot die, and nobody would start Redis again
        at, renderers = time.time(), self.farm.renderers_of(name)
        node_id = (self.farm.folder / name / "node-id").read_text().strip() if kill.kind == "worker" else ""
        if kill.kind == "redis":
            self.farm.kill_redis()
        else:
            self.farm.kill(name)
            self.away[name] = time.monotonic() + kill.away_s
        left = self._left_behind(kill.pc, renderers) if kill.kind == "worker" else 0
        say(f"{kill.at_s:6.1f} s  kill -9 {name}" + (f", away for {kill.away_s:.1f} s" if name in self.away else ""))
        self.killed.append(
            KillOutcome(kind=kill.kind, name=name, node_id=node_id, at=at, away_s=kill.away_s, renderers_left=left)
        )

    def _left_behind(self, pc: str, renderers: list[int]) -> int:
        deadline = time.monotonic() + RENDERER_GONE_S
        while renderers and time.monotonic() < deadline:
            time.sleep(0.02)
            renderers = self.farm.renderers_of(pc)
        return len(renderers)

    def _start_who_is_due(self, *, everybody: bool = False) -> None:
        for name, due in list(self.away.items()):
            if everybody or time.monotonic() >= due:
                del self.away[name]
                self.farm.start(name, "coordinator") if name == "coordinator" else self.farm.start_worker(name)
                self._note(name, started_at=time.time())

    def _note_if_coordinator_answers(self) -> None:
        last = next((outcome for outcome in reversed(self.killed) if outcome.name == "coordinator"), None)
        if last and last.started_at and not last.answered_at and self.farm.answers():
            self._note("coordinator", answered_at=time.time())

    def _note(self, name: str, **what: float) -> None:
        index = max(index for index, outcome in enumerate(self.killed) if outcome.name == name)
        self.killed[index] = replace(self.killed[index], **what)

    def _all_done(self) -> bool:
        shown = [self.farm.at_server(project) for project in self.projects]
        for project in self.projects:
            self._look_at_pictures(project)
        return all(summary["accepted"] + summary["failed"] == summary["frames"] for summary in shown)

    def _look_at_pictures(self, project: Project) -> None:
        for path in self.farm.picture(project, 1).parent.glob("*.*"):
            if path not in self.first_seen:
                self.first_seen[path] = hash(path.read_bytes())

    def _settle(self) -> bool:
        self._start_who_is_due(everybody=True)
        deadline = time.monotonic() + SETTLES_WITHIN_S
        reports = self.farm.folder / "coordinator" / "reports"
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.farm.active() == 0 and not list(reports.iterdir()):
                    return True
            time.sleep(LOOK_EVERY_S)
        return False


def demo_scene(folder: Path) -> Path:
    """The lab's demo scene, made by Blender."""
    blender = os.environ.get("SHEEPFOLD_BLENDER") or shutil.which("blender")
    if not blender:
        raise SystemExit("no Blender: install one, set SHEEPFOLD_BLENDER, or say --blender-frames 0")
    scene = folder / "demo.blend"
    maker = [blender, "-b", "--factory-startup", "-P", str(ROOT / "lab" / "demo_scene" / "scene.py"), "--", str(scene)]
    subprocess.run(maker, check=True, capture_output=True, timeout=120)
    return scene


def say(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


def run_chaos(plan: Plan, folder: Path) -> ChaosReport:
    """One run in an empty folder; nothing is left running."""
    farm = FaultyFarm(folder, environment=ENVIRONMENT)
    try:
        return Chaos(plan=plan, farm=farm).run()
    finally:
        farm.end()


def main() -> int:
    """The command; 0 when every promise held."""
    parser = argparse.ArgumentParser(description="Kills a farm at random and counts what became of each frame.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--frames", type=int, default=300, help="by the scripted renderer, at most 999")
    parser.add_argument("--blender-frames", type=int, default=24)
    parser.add_argument("--fault-rate", type=float, default=0.1, help="share of the server's answers that fail")
    parser.add_argument("--pause-s", type=float, nargs=2, default=(4.0, 8.0), help="seconds between two kills, from to")
    parser.add_argument("--limit-s", type=float, default=600, help="give up after so many seconds")
    parser.add_argument("--dir", type=Path, help="keep logs, ledger and pictures here (must be empty)")
    given = parser.parse_args()
    plan = Plan(
        seed=given.seed,
        frames=given.frames,
        blender_frames=given.blender_frames,
        fault_rate=given.fault_rate,
        pause_s=tuple(given.pause_s),
        limit_s=given.limit_s,
    )
    say(f"seed {plan.seed} (repeat with --seed {plan.seed})")
    with contextlib.ExitStack() as stack:
        folder = given.dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sheepfold-chaos-")))
        folder.mkdir(parents=True, exist_ok=True)
        report = run_chaos(plan, folder)
    print(report.table())
    for broken in report.broken():
        print(f"BROKEN: {broken}")
    print(f"seed {plan.seed}: " + ("a promise is broken" if report.broken() else "every promise held"))
    return 1 if report.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
