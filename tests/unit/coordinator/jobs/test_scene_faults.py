"""When a job is put on hold because no PC can render its scene."""

from __future__ import annotations

import pytest

from coordinator.jobs.scene_faults import SceneFaults
from coordinator.leases.lease import Lease
from coordinator.leases.ledger import Ledger
from coordinator.nodes.present_nodes import PresentNodes
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.presence import Presence
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.fakes import node

NO_CAMERA = FailureReport(kind=FailureKind.NO_CAMERA, reason="Cannot render, no camera")
TOO_NEW = FailureReport(kind=FailureKind.SCENE_UNREADABLE, reason="not a blend file")


class SceneFaultsHarness:
    """PCs that could take any frame, and the jobs that were put on hold."""

    def __init__(self, ledger: Ledger, **blenders: str) -> None:
        self._ledger, self._frame = ledger, 0
        self.present: dict[str, Presence] = {
            node_id: node(node_id, blender=version) for node_id, version in blenders.items()
        }
        self.held: list[tuple[Lease, str]] = []
        nodes = PresentNodes()
        nodes.nodes = self.present
        self.faults = SceneFaults(nodes)

    def lease(self, node_id: str, **changes: object) -> Lease:
        self._frame += 1
        return rendering(self._ledger, f"{self._frame:04}", node_id, **changes)

    def fails(self, node_id: str, report: FailureReport = NO_CAMERA, **changes: object) -> None:
        lease = self.lease(node_id, **changes)
        if self.faults.failed(lease, report, set(self.present)):
            self.held.append((lease, report.reason))


def test_two_pcs_that_say_so_settle_it_at_once(ledger: Ledger) -> None:
    harness = SceneFaultsHarness(ledger, n1="3.4.1", n2="3.4.1", n3="3.4.1")
    harness.fails("n1")
    assert not harness.held
    harness.fails("n2")
    assert [reason for _, reason in harness.held] == ["Cannot render, no camera"]
    harness.fails("n3")
    assert len(harness.held) == 1


def test_one_pc_alone_settles_it_with_a_second_look(ledger: Ledger) -> None:
    harness = SceneFaultsHarness(ledger, n1="3.4.1")
    harness.fails("n1")
    harness.fails("n1")
    assert len(harness.held) == 1


def test_one_pc_of_several_settles_nothing_however_often_it_says_so(ledger: Ledger) -> None:
    harness = SceneFaultsHarness(ledger, n1="3.4.1", n2="3.4.1")
    for _ in range(5):
        harness.fails("n1")
    assert not harness.held


def test_a_file_that_a_blender_cannot_read_is_first_given_to_one_of_another_version(ledger: Ledger) -> None:
    harness = SceneFaultsHarness(ledger, n1="3.4.1", n2="3.4.1", n3="4.2.0")
    harness.fails("n1", TOO_NEW)
    assert harness.faults.tried(harness.lease("n1")) == ("n1", "n2")
    harness.fails("n2", TOO_NEW)
    assert not harness.held, "4.2.0 may read it"
    harness.fails("n3", TOO_NEW)
    assert len(harness.held) == 1


def test_a_camera_is_missing_in_every_version_of_blender(ledger: Ledger) -> None:
    harness = SceneFaultsHarness(ledger, n1="3.4.1", n2="3.4.1", n3="4.2.0")
    harness.fails("n1")
    assert harness.faults.tried(harness.lease("n1")) == ()
    harness.fails("n2")
    assert len(harness.held) == 1


def test_a_job_with_a_picture_is_never_put_on_hold(ledger: Ledger) -> None:
    harness = SceneFaultsHarness(ledger, n1="3.4.1")
    harness.faults.rendered(harness.lease("n1"))
    for _ in range(5):
        harness.fails("n1")
    assert not harness.held


@pytest.mark.parametrize("other", [{"job_id": "78"}, {"revision": "4"}])
def test_each_revision_of_a_job_stands_by_itself(ledger: Ledger, other: dict[str, str]) -> None:
    harness = SceneFaultsHarness(ledger, n1="3.4.1")
    harness.fails("n1")
    harness.fails("n1", **other)
    assert not harness.held


def test_a_job_that_gets_another_chance_is_looked_at_anew(ledger: Ledger) -> None:
    harness = SceneFaultsHarness(ledger, n1="3.4.1")
    harness.fails("n1")
    harness.faults.forget("77")
    harness.fails("n1")
    assert not harness.held
    harness.fails("n1")
    assert len(harness.held) == 1
