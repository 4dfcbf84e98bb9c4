"""The process of simulated nodes, from outside: started with its plan, asked for its result."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path

from benchmarks.fleet.simulated_nodes import Plan, Result
from tests.support.farm.faulty_farm import FaultyFarm
from tests.support.farm.scripted_renderer import picture_of


class SimulatedFleet:
    """The process of simulated nodes."""

    def __init__(self, farm: FaultyFarm, nodes: int, demand: float) -> None:
        plan = Plan(
            coordinator_url=farm.coordinator_url,
            farm_token=farm.farm_token,
            nodes=nodes,
            render_s=nodes / demand,
            picture=b64encode(picture_of(7)).decode("ascii"),
            result=str(farm.folder / "nodes.json"),
        )
        self._result = Path(plan.result)
        self._log = (farm.folder / "nodes.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fleet.simulated_nodes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(asdict(plan)) + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "joined\n":
            raise RuntimeError((farm.folder / "nodes.log").read_text()[-2000:])

    def finish(self) -> Result:
        """Stops the nodes; what they saw."""
        self.process.communicate(timeout=60)
        return Result(**json.loads(self._result.read_text()))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()
