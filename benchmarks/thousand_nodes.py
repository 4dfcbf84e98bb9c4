"""How the coordinator bears many PCs: full frame cycles a second, what one costs, how late orders and cancels are.

    .venv/bin/python -m benchmarks.thousand_nodes [--nodes 10,100,1000] [--seconds 20] [--demand 250]

For each number of nodes a real lab server, a real coordinator with its own Redis, and one process of simulated nodes
(``simulated_nodes.py``) run on this machine and share its cores. A cycle is: request, grant, order, start-fence,
"render", delivery, inspection, upload, validation. The nodes take so long for a frame that together they could do
``demand`` frames a second, which is more than the machine can; so what is measured is the farm's own limit, at every
number of nodes under the same load. Figures are taken over ``seconds`` after a warm-up, from the books of both ends.

The machine's own limits stand beside them: how many frames a second its cores could do at the cost measured, were they
never idle, and how many messages a second its Redis gives one client that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
import requests

from benchmarks.simulated_fleet import SimulatedFleet
from benchmarks.simulated_nodes import Result
from coordinator.broker.embedded_redis import EmbeddedRedis
from tests.support.farm.faulty_farm import FaultyFarm, Project
from tests.support.farm.running_farm import wait_for
from tests.support.farm.scripted_renderer import pack_renderer

ROOT = Path(__file__).parents[1]

FRAMES = "1-100000"
WARM_UP_S = 8.0
#: A lease lives so long without a beat at this server: every lease that lives longer shows whether beats come.
MAX_PERIOD_S = 30
CANCELS = 10
ENVIRONMENT = {
    "SHEEPFOLD_MAX_PERIOD_S": str(MAX_PERIOD_S),
    "SHEEPFOLD_LEASE_GRACE_S": "2",
    "SHEEPFOLD_NO_JOB_WAIT_S": "1",
    "SHEEPFOLD_RETRY_WAIT_S": "1",
    "SHEEPFOLD_HEARTBEAT_S": "600",
}


@dataclass(frozen=True, kw_only=True)
class FleetFigures:
    """What one number of nodes came to."""

    nodes: int
    #: Accepted by the server.
    frames_per_s: float
    #: CPU milliseconds for each accepted frame.
    coordinator_ms: float
    server_ms: float
    redis_ms: float
    nodes_ms: float
    #: Largest resident memory of the coordinator, MB.
    memory_mb: float
    #: From the grant in the ledger to the order's arrival at its node, milliseconds.
    dispatch_p50_ms: float
    dispatch_p99_ms: float
    #: From the operator's request to the node that is told, milliseconds.
    cancel_p50_ms: float
    cancel_max_ms: float
    #: Heartbeats that the server answered.
    beats_per_s: float
    #: Beats without an answer, and leases that the server ended for want of one.
    missed_beats: int
    #: Anything a node met that it should not have.
    errors: dict[str, int]

    @property
    def frame_ms(self) -> float:
        """CPU milliseconds of everybody for one frame."""
        return self.coordinator_ms + self.server_ms + self.redis_ms + self.nodes_ms

    @property
    def limit_per_s(self) -> float:
        """Frames a second at that cost with every core busy all the time."""
        return (os.cpu_count() or 1) * 1000 / self.frame_ms


@dataclass(frozen=True, kw_only=True)
class ScalingFigures:
    """A row for each number of nodes, fewest first."""

    rows: tuple[FleetFigures, ...]
    #: One push and one blocking pop, one after the other, by one client of a Redis that has nothing else to do.
    redis_trips_per_s: float

    @property
    def growth(self) -> float:
        """What a frame costs the coordinator with the most nodes, in costs of one with the fewest."""
        return self.rows[-1].coordinator_ms / self.rows[0].coordinator_ms

    def table(self) -> str:
        """For a person."""
        lines = [
            f"{'':30}" + "".join(f"{row.nodes:>10}" for row in self.rows) + "     goal",
            *(_line(*entry, self.rows) for entry in _LINES),
            "",
            f"{'this machine, limits':30}",
            *(_line(*entry, self.rows) for entry in _LIMITS),
            f"{'bare Redis, messages/s':30}{self.redis_trips_per_s:10.0f}",
            f"{'cost of a frame, most / fewest':30}{self.growth:10.2f}   goal <= {FLAT_WITHIN:g}",
        ]
        return "\n".join(lines)

    def broken(self) -> list[str]:
        """The promises that did not hold."""
        found = [f"{self.growth:.2f} times the cost of a frame"] if self.growth > FLAT_WITHIN else []
        for row in self.rows:
            wrong = {
                f"{row.frames_per_s:.0f} frames/s": row.frames_per_s < FRAMES_GOAL,
                f"{row.memory_mb:.0f} MB": row.memory_mb >= MEMORY_GOAL_MB,
                f"{row.missed_beats} missed beats": row.missed_beats > 0,
                f"{row.errors}": bool(row.errors),
            }
            found += [f"{row.nodes} nodes: {what}" for what, is_wrong in wrong.items() if is_wrong]
        return found


#: Of everybody, on two cores.
FRAMES_GOAL = 100
MEMORY_GOAL_MB = 200
#: The coordinator's cost of a frame is flat when a hundred times the nodes make it at most this many times as dear.
FLAT_WITHIN = 1.5

_LINES: tuple[tuple[str, Callable[[FleetFigures], float], str, str], ...] = (
    ("frames/s, full cycle", lambda row: row.frames_per_s, ".0f", f">= {FRAMES_GOAL}"),
    ("coordinator, CPU ms a frame", lambda row: row.coordinator_ms, ".2f", ""),
    ("server, CPU ms a frame", lambda row: row.server_ms, ".2f", ""),
    ("Redis, CPU ms a frame", lambda row: row.redis_ms, ".2f", ""),
    ("nodes, CPU ms a frame", lambda row: row.nodes_ms, ".2f", ""),
    ("coordinator, peak MB", lambda row: row.memory_mb, ".0f", f"< {MEMORY_GOAL_MB}"),
    ("grant → order at node, p50 ms", lambda row: row.dispatch_p50_ms, ".0f", ""),
    ("grant → order at node, p99 ms", lambda row: row.dispatch_p99_ms, ".0f", ""),
    ("cancel → node, p50 ms", lambda row: row.cancel_p50_ms, ".0f", ""),
    ("cancel → node, max ms", lambda row: row.cancel_max_ms, ".0f", ""),
    ("heartbeats answered/s", lambda row: row.beats_per_s, ".0f", ""),
    ("missed heartbeats", lambda row: row.missed_beats, ".0f", "0"),
)
_LIMITS: tuple[tuple[str, Callable[[FleetFigures], float], str, str], ...] = (
    ("all cores busy, frames/s", lambda row: row.limit_per_s, ".0f", ""),
    ("measured / that limit", lambda row: row.frames_per_s / row.limit_per_s, ".2f", ""),
)


def _line(
    name: str, figure: Callable[[FleetFigures], float], shape: str, goal: str, rows: Sequence[FleetFigures]
) -> str:
    return f"{name:30}" + "".join(f"{figure(row):>10{shape}}" for row in rows) + (f"  {goal}" if goal else "")


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Seconds of CPU so far, children left out."""

    at: float
    seconds: dict[str, float]

    @staticmethod
    def now(processes: dict[str, psutil.Process]) -> CpuTimes:
        used = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
        return CpuTimes(at=time.time(), seconds=used)


def measure(nodes: int, *, seconds: float, demand: float, folder: Path) -> FleetFigures:
    """One farm with that many nodes, from its start to its end."""
    farm = FaultyFarm(folder, environment=ENVIRONMENT)
    with contextlib.ExitStack() as stack:
        stack.callback(farm.end)
        farm.start_server("--renderer", f"linux/64bit={pack_renderer(folder / 'renderer.zip')}")
        project = farm.submit(FRAMES)
        farm.start_coordinator()
        crowd = SimulatedFleet(farm, nodes, demand)
        stack.callback(crowd.end)
        return _observe(farm, project, crowd, nodes, seconds)


def _observe(farm: FaultyFarm, project: Project, crowd: SimulatedFleet, nodes: int, seconds: float) -> FleetFigures:
    server, coordinator = (farm.processes[name].pid for name in ("server", "coordinator"))
    record = json.loads((farm.folder / "coordinator" / "redis" / "redis.json").read_text())
    pids = {"server": server, "coordinator": coordinator, "redis": record["pid"], "nodes": crowd.process.pid}
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}
    wait_for("the first frames are accepted", lambda: _accepted(farm) >= nodes + 50, 90)
    time.sleep(WARM_UP_S)
    before, beats = CpuTimes.now(processes), _metric(farm, "beats")
    time.sleep(seconds)
    after, beats = CpuTimes.now(processes), _metric(farm, "beats") - beats
    memory_mb = _peak_mb(coordinator)
    cancels = dict(_cancel_some(farm, project))
    missed = _metric(farm, "missed_beats") + farm.books()["expiries"]
    seen = crowd.finish()
    farm.stop("coordinator")
    return _figures(farm, seen, nodes, before, after, memory_mb, cancels, (beats, missed))


def _accepted(farm: FaultyFarm) -> int:
    return farm.rows("SELECT count(*) AS n FROM leases WHERE state = 'accepted'")[0]["n"]


def _figures(
    farm: FaultyFarm,
    seen: Result,
    nodes: int,
    before: CpuTimes,
    after: CpuTimes,
    memory_mb: float,
    cancels: dict[str, float],
    beats: tuple[int, int],
) -> FleetFigures:
    within = (before.at, after.at)
    accepted = farm.rows(
        "SELECT count(*) AS n FROM leases WHERE state = 'accepted' AND ended_at BETWEEN ? AND ?", *within
    )
    frames = max(1, accepted[0]["n"])
    granted = farm.rows("SELECT id, granted_at FROM leases WHERE granted_at BETWEEN ? AND ?", *within)
    waits = sorted(
        (seen.arrived[f"{row['id']}.1"] - row["granted_at"]) * 1000
        for row in granted
        if f"{row['id']}.1" in seen.arrived
    )
    told = sorted((seen.cancelled[key] - asked) * 1000 for key, asked in cancels.items() if key in seen.cancelled)
    ms = {name: (after.seconds[name] - before.seconds[name]) * 1000 / frames for name in before.seconds}
    return FleetFigures(
        nodes=nodes,
        frames_per_s=frames / (after.at - before.at),
        coordinator_ms=ms["coordinator"],
        server_ms=ms["server"],
        redis_ms=ms["redis"],
        nodes_ms=ms["nodes"],
        memory_mb=memory_mb,
        dispatch_p50_ms=_share(waits, 0.5),
        dispatch_p99_ms=_share(waits, 0.99),
        cancel_p50_ms=_share(told, 0.5),
        cancel_max_ms=_share(told, 1.0),
        beats_per_s=beats[0] / (after.at - before.at),
        missed_beats=beats[1],
        errors=seen.errors
        | ({} if len(told) == len(cancels) else {"cancels that were not heard": len(cancels) - len(told)}),
    )


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _metric(farm: FaultyFarm, name: str) -> int:
    headers = {"authorization": f"Bearer {farm.farm_token}"}
    text = requests.get(farm.coordinator_url + "/metrics", headers=headers, timeout=30).text
    return int(float(text.split(f"\nsheepfold_{name}_total ")[1].split()[0]))


def _cancel_some(farm: FaultyFarm, project: Project) -> Iterator[tuple[str, float]]:
    """Cancels frames that are with nodes; ``<lease>.<attempt>`` and when the operator asked."""
    for _ in range(CANCELS):
        found = farm.rows(
            "SELECT id, attempt, frame FROM leases WHERE state = 'rendering' ORDER BY changed_at DESC LIMIT 1"
        )
        if found:
            asked = time.time()
            farm.post(f"/api/cancel?job={project.id}&frame={found[0]['frame']}")
            yield f"{found[0]['id']}.{found[0]['attempt']}", asked
        time.sleep(0.2)


def bare_redis_trips_per_s(url: str, trips: int = 5000) -> float:
    """What this machine's Redis gives one client: a push and a blocking pop, one after the other."""
    client = redis.Redis.from_url(url)
    began = time.monotonic()
    for _ in range(trips):
        client.lpush("bare", b"x" * 2000)
        client.brpop("bare")
    return trips / (time.monotonic() - began)


def measure_all(counts: Sequence[int], *, seconds: float, demand: float) -> ScalingFigures:
    """A farm for each number of nodes, one after the other; nothing of them is left."""
    rows = []
    for nodes in sorted(counts):
        with tempfile.TemporaryDirectory(prefix="sheepfold-nodes-") as folder:
            rows.append(measure(nodes, seconds=seconds, demand=demand, folder=Path(folder)))
    with tempfile.TemporaryDirectory(prefix="sheepfold-redis-") as folder, EmbeddedRedis(Path(folder)) as bare:
        return ScalingFigures(rows=tuple(rows), redis_trips_per_s=bare_redis_trips_per_s(bare.url))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0 when every promise held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--nodes", default="10,100,1000", help="how many, separated by commas")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--demand", type=float, default=250, help="frames a second the nodes could do")
    asked = parser.parse_args(argv)
    found = measure_all([int(count) for count in asked.nodes.split(",")], seconds=asked.seconds, demand=asked.demand)
    print(found.table(), flush=True)
    for promise in found.broken():
        print(f"BROKEN: {promise}")
    return 1 if found.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
