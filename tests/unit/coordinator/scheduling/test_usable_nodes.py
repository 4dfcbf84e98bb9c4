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


class Lan:
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
def lan(ledger: Ledger) -> Lan:
    lan = Lan(ledger)
    lan.usable.update_index()
    return lan


def test_everybody_on_the_lan_may_get_frames_and_is_woken_for(lan: Lan) -> None:
    assert lan.index.nodes().keys() == lan.usable.current().keys() == {"n1", "n2", "n3"}
    assert lan.wakeups.placing.is_set()
    assert lan.wakeups.asking.is_set()
    assert not lan.usable.is_index_outdated()


def test_a_quarantined_node_gets_none(lan: Lan) -> None:
    for frame in ("0001", "0002"):
        lan.quarantine.refused(rendering(lan.ledger, frame, "n1"), "pc", "status 301")
    assert lan.usable.is_index_outdated()
    lan.usable.update_index()
    assert lan.index.nodes().keys() == {"n2", "n3"}


def test_a_paused_node_gets_none_until_it_is_lifted(lan: Lan) -> None:
    lan.pauses.failed(
        rendering(lan.ledger, "0001", "n2"), "n2", "n2", FailureReport(kind=FailureKind.DISK_FULL, reason="full")
    )
    assert lan.usable.current().keys() == {"n1", "n3"}
    lan.usable.update_index()
    assert lan.index.nodes().keys() == {"n1", "n3"}
    assert lan.pauses.lift("n2")
    assert lan.usable.is_index_outdated()
    lan.usable.update_index()
    assert lan.index.nodes().keys() == {"n1", "n2", "n3"}


def test_a_node_that_went_home_is_removed(lan: Lan) -> None:
    lan.present.nodes = {"n3": node("n3")}
    lan.usable.update_index()
    assert lan.index.nodes().keys() == {"n3"}
