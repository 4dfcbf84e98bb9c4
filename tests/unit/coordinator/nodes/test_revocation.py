"""A node that is turned out: what ends, in which order, and what the operator hears."""

from __future__ import annotations

from typing import cast

import pytest

from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from coordinator.nodes.credentials import NodeCredentials
from coordinator.nodes.errors import BrokerUnreachable, UnknownNode
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.registry import NodeRegistry
from coordinator.nodes.revocation import NodeRevocation, Revoked
from tests.support.coordinator.fakes import NODE_SECRET, node


class Farm:
    """Notes what is ended, and knows these names while Redis is there."""

    def __init__(self, store: KeyValueStore) -> None:
        self.credentials, self.present = NodeCredentials(store), PresentNodes()
        self.named = {"n1": "pc", "n2": "pc-02"}
        self.steps: list[str] = []
        self.is_redis_there = True
        for node_id in ("n1", "n2", "away"):
            self.credentials.admit(node_id, NODE_SECRET if node_id == "n1" else node_id * 8, ())
        self.revocation = NodeRevocation(
            self.credentials, cast("NodeRegistry", self), self.present, self.end_login, self.take_leases
        )

    def names(self) -> dict[str, str]:
        self._needs_redis()
        return self.named

    def forget(self, node_id: str) -> None:
        self._needs_redis()
        self.steps.append(f"forgotten {node_id}")

    def end_login(self, node_id: str) -> None:
        assert not self.credentials.is_right(node_id, NODE_SECRET), "first of all it is refused"
        self._needs_redis()
        self.steps.append(f"cut off {node_id}")

    def take_leases(self, node_id: str) -> None:
        self.steps.append(f"leases of {node_id}")

    def _needs_redis(self) -> None:
        if not self.is_redis_there:
            raise BrokerUnreachable("ConnectionError")


@pytest.fixture
def farm(ledger: Ledger) -> Farm:
    return Farm(KeyValueStore(ledger.database))


@pytest.mark.parametrize("name", ["pc", "n1"])
def test_a_node_is_refused_then_cut_off_then_its_leases_go_to_others(farm: Farm, name: str) -> None:
    assert farm.revocation.revoke(name) == [Revoked(node_id="n1", name="pc", is_cut_off=True)]
    assert farm.steps == ["cut off n1", "forgotten n1", "leases of n1"]
    assert farm.credentials.is_revoked("n1")
    assert not farm.credentials.is_revoked("n2")


def test_one_that_is_long_gone_is_revoked_by_its_id(farm: Farm) -> None:
    assert farm.revocation.revoke("away") == [Revoked(node_id="away", name="away", is_cut_off=True)]


@pytest.mark.parametrize("name", ["pc-03", "", "n"])
def test_a_name_that_nobody_has_is_told_and_nothing_ends(farm: Farm, name: str) -> None:
    with pytest.raises(UnknownNode, match="sheepfold status"):
        farm.revocation.revoke(name)
    assert farm.steps == []


def test_while_redis_is_away_the_rest_ends_at_once(farm: Farm) -> None:
    farm.is_redis_there = False
    farm.present.nodes = {"n1": node("n1", name="pc")}
    assert farm.revocation.revoke("pc") == [Revoked(node_id="n1", name="pc", is_cut_off=False)]
    assert farm.steps == ["leases of n1"]
    assert farm.credentials.is_revoked("n1")


def test_revoking_twice_says_that_there_is_no_such_node(farm: Farm) -> None:
    farm.revocation.revoke("pc")
    with pytest.raises(UnknownNode):
        farm.revocation.revoke("pc")
