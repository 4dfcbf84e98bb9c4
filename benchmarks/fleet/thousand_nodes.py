"""How the coordinator bears many PCs: full frame cycles a second, what one costs, how late orders and cancels are.

    .venv/bin/python -m benchmarks.fleet.thousand_nodes [--nodes 10,100,1000] [--seconds 20] [--demand 250]

For each number of nodes a real lab server, a real coordinator with its own Redis, and one process of simulated nodes
(``simulated_nodes.py``) run on this machine and share its cores. A cycle is: request, grant, order, start-fence,
"render", delivery, inspection, upload, validation. The nodes take so long for a frame that together they could do
``demand`` frames a second, which is more than the machine can; so what is measured is the farm's own limit, at every
number of nodes under the same load. Figures are taken over ``seconds`` after a warm-up, from what both ends counted.

The machine's own limits stand beside them: how many frames a second its cores could do at the cost measured, were they
never idle, and how many messages a second its Redis gives one client that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
import requests

from benchmarks.fleet.fleet_figures import FleetFigures, ScalingFigures
from benchmarks.fleet.simulated_fleet import SimulatedFleet
from benchmarks.fleet.simulated_nodes import Result
from coordinator.broker.embedded_redis import EmbeddedRedis
from tests.support.farm.faulty_farm import FaultyFarm, Project
from tests.support.farm.running_farm import wait_for
from tests.support.farm.scripted_renderer import pack_renderer

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
        fleet = SimulatedFleet(farm, nodes, demand)
        stack.callback(fleet.end)
        return _observe(farm, project, fleet, nodes, seconds)


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What was seen of a farm, from both ends of the seconds that count to its end."""

    nodes: int
    before: CpuTimes
    after: CpuTimes
    memory_mb: float
    #: ``<lease>.<attempt>`` → when the operator asked for its end, in Unix seconds.
    cancels: dict[str, float]
    #: Heartbeats that the server answered in those seconds.
    beats: int
    missed_beats: int
    #: What the nodes saw.
    seen: Result


def _observe(farm: FaultyFarm, project: Project, fleet: SimulatedFleet, nodes: int, seconds: float) -> FleetFigures:
    server, coordinator = (farm.processes[name].pid for name in ("server", "coordinator"))
    record = json.loads((farm.folder / "coordinator" / "redis" / "redis.json").read_text())
    pids = {"server": server, "coordinator": coordinator, "redis": record["pid"], "nodes": fleet.process.pid}
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}
    wait_for("the first frames are accepted", lambda: _accepted(farm) >= nodes + 50, 90)
    time.sleep(WARM_UP_S)
    before, beats = CpuTimes.now(processes), _metric(farm, "beats")
    time.sleep(seconds)
    after, beats = CpuTimes.now(processes), _metric(farm, "beats") - beats
    memory_mb = _peak_mb(coordinator)
    cancels = dict(_cancel_some(farm, project))
    missed = _metric(farm, "missed_beats") + farm.accounting()["expiries"]
    seen = fleet.finish()
    farm.stop("coordinator")
    observed = Observed(
        nodes=nodes,
        before=before,
        after=after,
        memory_mb=memory_mb,
        cancels=cancels,
        beats=beats,
        missed_beats=missed,
        seen=seen,
    )
    return _figures(farm, observed)


def _accepted(farm: FaultyFarm) -> int:
    return farm.rows("SELECT count(*) AS n FROM leases WHERE state = 'accepted'")[0]["n"]


def _figures(farm: FaultyFarm, observed: Observed) -> FleetFigures:
    before, after, seen = observed.before, observed.after, observed.seen
    within = (before.at, after.at)
    query = "SELECT count(*) AS n FROM leases WHERE state = 'accepted' AND ended_at BETWEEN ? AND ?"
    frames = max(1, farm.rows(query, *within)[0]["n"])
    ms = {name: (after.seconds[name] - before.seconds[name]) * 1000 / frames for name in before.seconds}
    waits = _dispatch_ms(farm, seen, within)
    asked = observed.cancels
    cancel_ms = sorted((seen.cancelled[key] - at) * 1000 for key, at in asked.items() if key in seen.cancelled)
    unheard = len(asked) - len(cancel_ms)
    return FleetFigures(
        nodes=observed.nodes,
        frames_per_s=frames / (after.at - before.at),
        coordinator_ms=ms["coordinator"],
        server_ms=ms["server"],
        redis_ms=ms["redis"],
        nodes_ms=ms["nodes"],
        memory_mb=observed.memory_mb,
        dispatch_p50_ms=_share(waits, 0.5),
        dispatch_p99_ms=_share(waits, 0.99),
        cancel_p50_ms=_share(cancel_ms, 0.5),
        cancel_max_ms=_share(cancel_ms, 1.0),
        beats_per_s=observed.beats / (after.at - before.at),
        missed_beats=observed.missed_beats,
        errors=seen.errors | ({"cancels that were not heard": unheard} if unheard else {}),
    )


def _dispatch_ms(farm: FaultyFarm, seen: Result, within: tuple[float, float]) -> list[float]:
    """From grant to node, milliseconds, shortest first, of the first attempts of what was granted in this time."""
    granted = farm.rows("SELECT id, granted_at FROM leases WHERE granted_at BETWEEN ? AND ?", *within)
    arrived = {row["id"]: seen.arrived.get(f"{row['id']}.1") for row in granted}
    return sorted((at - row["granted_at"]) * 1000 for row in granted if (at := arrived[row["id"]]) is not None)


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _metric(farm: FaultyFarm, name: str) -> int:
    headers = {"authorization": f"Bearer {farm.password_of('viewer')}"}
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
