"""Who may get frames."""

from __future__ import annotations

import random

import pytest

from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from coordinator.nodes.pauses import NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.node_index import NodeIndex
from coordinator.scheduling.usable_nodes import UsableNodes
from sheepfold.backoff import Backoff
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.presence import Presence
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.fakes import KEY, node


class UsableNodesHarness:
    """Three PCs, all usable."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.present, self.wakeups = ledger, PresentNodes(), Wakeups()
        self.present.nodes = {node_id: node(node_id) for node_id in ("n1", "n2", "n3")}
        self.quarantine = NodeQuarantine(KeyValueStore(ledger.database))
        self.pauses = NodePauses(lambda: Backoff(5, 300, random.Random(1)))
        self.index = NodeIndex(look_ahead=1)
        self.usable = UsableNodes(self.present, self.quarantine, self.pauses, self.index, self, self.wakeups)

    def session_key(self, _presence: Presence) -> str:
        return KEY


@pytest.fixture
def harness(ledger: Ledger) -> UsableNodesHarness:
    harness = UsableNodesHarness(ledger)
    harness.usable.update_index()
    return harness


def test_everybody_on_the_lan_may_get_frames_and_is_woken_for(harness: UsableNodesHarness) -> None:
    assert harness.index.nodes().keys() == harness.usable.current().keys() == {"n1", "n2", "n3"}
    assert harness.wakeups.placing.is_set()
    assert harness.wakeups.asking.is_set()
    assert not harness.usable.is_index_outdated()


def test_a_quarantined_node_gets_none(harness: UsableNodesHarness) -> None:
    for frame in ("0001", "0002"):
        harness.quarantine.refused(rendering(harness.ledger, frame, "n1"), "pc", "status 301")
    assert harness.usable.is_index_outdated()
    harness.usable.update_index()
    assert harness.index.nodes().keys() == {"n2", "n3"}


def test_a_paused_node_gets_none_until_it_is_lifted(harness: UsableNodesHarness) -> None:
    harness.pauses.failed(
        rendering(harness.ledger, "0001", "n2"), "n2", "n2", FailureReport(kind=FailureKind.DISK_FULL, reason="full")
    )
    assert harness.usable.current().keys() == {"n1", "n3"}
    harness.usable.update_index()
    assert harness.index.nodes().keys() == {"n1", "n3"}
    assert harness.pauses.lift("n2")
    assert harness.usable.is_index_outdated()
    harness.usable.update_index()
    assert harness.index.nodes().keys() == {"n1", "n2", "n3"}


def test_a_node_that_went_home_is_removed(harness: UsableNodesHarness) -> None:
    harness.present.nodes = {"n3": node("n3")}
    harness.usable.update_index()
    assert harness.index.nodes().keys() == {"n3"}
