"""A frame whose renderer kills its worker, on real workers that a supervisor starts again."""

from __future__ import annotations

import threading

import pytest

from tests.support.farm.faulty_farm import FaultyFarm
from tests.support.farm.running_farm import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

PCS = ("pc-01", "pc-02", "pc-03")
KILLER, FRAMES = 4, 12


class Supervisor:
    """Starts a worker again when it dies, as systemd does, and counts."""

    def __init__(self, own_farm: FaultyFarm) -> None:
        self.deaths = 0
        self._farm, self._done = own_farm, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            for pc in PCS:
                if self._farm.processes[pc].poll() is not None:
                    self.deaths += 1
                    self._farm.start_worker(pc)

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


def test_it_takes_three_workers_down_the_last_one_alone_and_fails(own_farm: FaultyFarm) -> None:
    own_farm.begin(*PCS)
    supervisor = Supervisor(own_farm)
    try:
        project = own_farm.submit(f"1-{FRAMES}", seconds=0.3, acts={f"{KILLER}:*": "{ sleep 0.6; kill -9 $PPID; }"})

        company: set[int] = set()

        def has_failed() -> bool:
            status = own_farm.status()
            for node in status["nodes"]:
                if any((int(slot["frame"]), slot["attempt"]) == (KILLER, 3) for slot in node["busy"]):
                    company.add(len(node["busy"]))
            return status["leases"]["failed"] == 1

        wait_for("the frame has failed", has_failed, 120)
        wait_for("all others are accepted", lambda: own_farm.status()["leases"]["accepted"] == FRAMES - 1, 60)
    finally:
        supervisor.stop()
    assert supervisor.deaths == 3
    assert [start.attempt for start in project.starts(KILLER)] == [1, 2, 3]
    assert company == {1}, "its PC had no other frame"
    assert "beside it" in own_farm.error_log(project, KILLER)
    assert "takes PCs down" in own_farm.error_log(project, KILLER)
    assert own_farm.log_of("coordinator").read_text().count("may be what takes PCs down") == 1
