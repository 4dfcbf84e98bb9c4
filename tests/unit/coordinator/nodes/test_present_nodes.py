"""What the presence records say of names and of the time that frames still need."""

from __future__ import annotations

import pytest

from coordinator.leases.ledger import Ledger
from coordinator.nodes.present_nodes import PresentNodes
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.fakes import node, slot


@pytest.mark.parametrize(("node_id", "name"), [("n1", "pc-01"), ("n2", ""), (None, "")])
def test_a_pc_that_is_not_here_has_no_name(node_id: str | None, name: str) -> None:
    present = PresentNodes()
    present.nodes = {"n1": node("n1", name="pc-01")}
    assert present.name_of(node_id) == name


def test_the_time_a_frame_needs_is_what_its_own_node_says_of_its_own_slot(ledger: Ledger) -> None:
    mine, other = rendering(ledger, "0001", "n1"), rendering(ledger, "0002", "n1")
    elsewhere = rendering(ledger, "0003", "n2")
    present = PresentNodes()
    assert present.remaining_s(mine) is None, "nobody is here"
    present.nodes = {"n1": node("n1", busy=(slot(other, remaining_s=3.0), slot(mine, remaining_s=7.5)))}
    assert (present.remaining_s(mine), present.remaining_s(other)) == (7.5, 3.0)
    assert present.remaining_s(elsewhere) is None
