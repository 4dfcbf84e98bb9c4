from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coordinator.api.operator_service import OperatorService, OperatorServices
from coordinator.delivery.failure_logs import FailureLogs
from coordinator.jobs.blocks import BlockedBy, JobBlocks
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.nodes.pauses import NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.asking import FrameRequester
from coordinator.settings import SessionMode
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_pool import SessionPool
from coordinator.upstream.session_state import SessionState
from sheepfold import __version__
from sheepfold.backoff import Backoff
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.presence import Compute, Stage
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.fakes import HARDWARE, KEY, FakeSession, node, slot


class ServiceHarness:
    """An operator, and whom it told what."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.logs = FailureLogs(folder).open()
        self.ledger, self.quarantine = ledger, NodeQuarantine(KeyValueStore(ledger.database)).load()
        self.pauses = NodePauses(lambda: Backoff(5, 300, random.Random(1)))
        self.released = 0
        self.present_nodes, self.wakeups = PresentNodes(), Wakeups()
        self.free_places = 2
        self.session, self.blocks = (
            FakeSession(),
            JobBlocks(KeyValueStore(ledger.database), "http://server", wall_clock=lambda: 7.0).load(),
        )
        self.requester = SimpleNamespace(frames_remaining=None, wanted=lambda _key: self.free_places)
        services = OperatorServices(
            ledger=ledger,
            sessions=SessionPool(SessionMode.FARM, lambda _key, _hardware: cast("FarmSession", self.session)).open(
                HARDWARE
            ),
            quarantine=self.quarantine,
            pauses=self.pauses,
            requester=cast("FrameRequester", self.requester),
            blocks=self.blocks,
            present=self.present_nodes,
            usable=self,
            failure_logs=self.logs,
            wakeups=self.wakeups,
        )
        self.operator = OperatorService(services)

    def update_index(self) -> None:
        self.released += 1

    def quarantined(self, node_id: str, name: str) -> None:
        for number in range(2):
            lease = rendering(self.ledger, f"9{number}", "good")
            self.quarantine.failed(lease, node_id, name, FailureKind.BAD_PICTURE, "black")
            self.quarantine.succeeded(lease)
            self.ledger.apply(lease.id, LeaseEvent.CANCEL)


@pytest.fixture
def harness(ledger: Ledger, tmp_path: Path) -> ServiceHarness:
    return ServiceHarness(ledger, tmp_path / "logs")


def test_asking_now_is_told_for_each_session(harness: ServiceHarness) -> None:
    assert harness.operator.ask_now() == [{"name": "linux/64bit", "asked": True, "said": "asking now"}]
    assert (harness.session.asked_now, harness.wakeups.asking.is_set()) == (1, True)

    harness.free_places = 0
    assert harness.operator.ask_now()[0]["said"] == "asking as soon as a slot is free: none is"

    harness.session.state, harness.session.notice = SessionState.DISABLED, "disabled because of broken frames"
    assert harness.operator.ask_now() == [
        {"name": "linux/64bit", "asked": False, "said": "disabled because of broken frames"}
    ]


def test_a_pc_that_is_released_is_asked_for_again(harness: ServiceHarness) -> None:
    harness.quarantined("n1", "pc-03")
    assert not harness.operator.release("pc-99")
    assert harness.released == 0
    assert harness.operator.release("pc-03")
    assert harness.released == 1
    assert not harness.quarantine.is_quarantined("n1")


def test_the_status_of_an_empty_farm(harness: ServiceHarness) -> None:
    status = harness.operator.status()
    assert status == {
        "version": __version__,
        "sessions": [
            {
                "key": KEY,
                "name": "linux/64bit",
                "state": "signed in",
                "notice": "signed in",
                "asked_in_s": 0.0,
                "has_free_slot": True,
            }
        ],
        "leases": dict.fromkeys((state.value for state in LeaseState), 0),
        "frames": dict.fromkeys(
            ("waiting", "ready", "rendering", "uploading", "accepted", "refused", "failed", "cancelled", "lost"), 0
        ),
        "accepted": 0,
        "frames_remaining": None,
        "eta_s": None,
        "nodes": [],
        "quarantined": [],
        "blocked": [],
    }


def test_the_status_tells_what_is_blocked_and_why(harness: ServiceHarness) -> None:
    harness.blocks.block("101", "film", "no camera", BlockedBy.FARM)
    [block] = json.loads(json.dumps(harness.operator.status()))["blocked"]
    assert block == {
        "job_id": "101",
        "name": "film",
        "reason": "no camera",
        "by": "farm",
        "since": 7.0,
        "frame": None,
        "kind": "",
        "at_server": False,
        "label": "job 101 · film",
    }


def test_the_status_tells_what_each_pc_renders_and_how_far(harness: ServiceHarness) -> None:
    lease = rendering(harness.ledger, "0012")
    busy = slot(lease, progress=0.5, remaining_s=30.0, memory_kb=2048)
    harness.present_nodes.nodes = {
        "n2": node("n2", name="pc-02", accepting=False),
        "n1": node("n1", name="pc-01", slots=2, compute=Compute.BOTH, busy=(busy,)),
    }
    harness.requester.frames_remaining = 1187
    harness.quarantined("n2", "pc-02")
    status = json.loads(json.dumps(harness.operator.status()))  # as it travels

    first, second = status["nodes"]
    assert [first["name"], second["name"]] == ["pc-01", "pc-02"], "sorted by name"
    assert first["busy"] == [
        {
            "lease_id": lease.id,
            "attempt": 1,
            "job_name": "demo",
            "frame": "0012",
            "stage": Stage.RENDERING.value,
            "progress": 0.5,
            "remaining_s": 30.0,
            "memory_kb": 2048,
        }
    ]
    wanted: dict[str, Any] = {"id": "n1", "slots": 2, "compute": "both", "accepting": True, "quarantined": False}
    assert first.items() >= wanted.items()
    assert (second["accepting"], second["quarantined"], len(second["strikes"])) == (False, True, 2)
    assert (first["cpu"], first["cores"], first["ram"]) == ("Xeon", 8, 16 * 1024**3)
    assert status["quarantined"] == ["pc-02"]
    assert status["frames_remaining"] == 1187
    assert (status["leases"]["rendering"], status["leases"]["cancelled"]) == (1, 2)


def test_a_pc_that_is_quarantined_and_switched_off_is_still_told(harness: ServiceHarness) -> None:
    harness.quarantined("n1", "pc-03")
    assert harness.operator.status()["quarantined"] == ["pc-03"]


def test_the_log_of_a_frame_is_found_by_the_name_or_number_of_its_job(harness: ServiceHarness, ledger: Ledger) -> None:
    lease = rendering(ledger, "0012", "n1")
    harness.logs.put(lease, FailureReport(kind=FailureKind.NO_OUTPUT, reason="no camera", log="Error: no camera"), "pc")
    ledger.apply(lease.id, LeaseEvent.GIVE_UP, reason="no output file: no camera")
    for job in (lease.offer.job_id, lease.job_name):
        found = harness.operator.log(job, "12")
        assert found is not None
        assert found.reason == "no output file: no camera"
        assert "Error: no camera" in found.text
    assert harness.operator.log("another", "12") is None
    assert harness.operator.log(lease.job_name, "13") is None


def test_the_status_tells_which_pcs_take_nothing_and_why(harness: ServiceHarness, ledger: Ledger) -> None:
    harness.present_nodes.nodes = {
        "n1": node("n1", trouble="disk full: make room"),
        "n2": node("n2", no_blender="no blender on PATH"),
        "n3": node("n3", blender="3.4.1"),
    }
    harness.pauses.follow(harness.present_nodes.nodes)
    failure = FailureReport(kind=FailureKind.INTERNAL, reason="KeyError")
    harness.pauses.failed(rendering(ledger, node="n3"), "n3", "n3", failure)
    rows = [(row["trouble"], row["blender"], row["no_blender"]) for row in harness.operator.status()["nodes"]]
    assert rows == [
        ("disk full: make room", "", ""),
        ("", "", "no blender on PATH"),
        ("internal error: KeyError: look into the log of its worker", "3.4.1", ""),
    ]


def test_a_pc_that_is_paused_is_tried_again_when_it_is_released(harness: ServiceHarness, ledger: Ledger) -> None:
    failure = FailureReport(kind=FailureKind.MISSING_LIBRARIES, reason="libX.so")
    harness.pauses.failed(rendering(ledger, node="n1"), "n1", "pc1", failure)
    assert harness.operator.release("pc1")
    assert harness.released == 1
    assert not harness.pauses.is_paused("n1")
    assert not harness.operator.release("pc1")


def test_a_frame_that_was_given_up_unrendered_has_its_reason_and_no_log(
    harness: ServiceHarness, ledger: Ledger
) -> None:
    lease = rendering(ledger, "0007", "n1")
    ledger.apply(lease.id, LeaseEvent.GIVE_UP, reason="no camera: Cannot render, no camera")
    found = harness.operator.log(lease.job_name, "7")
    assert found is not None
    assert found.path == ""
    assert found.text.startswith("no camera: Cannot render, no camera")
