"""Frames that may be why their PC went down."""

from __future__ import annotations

import pytest

from coordinator.delivery.claims import Claims
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from sheepfold.contract.presence import Stage
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.fakes import node, slot
from tests.unit.coordinator.nodes.test_reconciler import ReconcilerHarness, join


@pytest.fixture
def lan(ledger: Ledger, claims: Claims) -> ReconcilerHarness:
    return ReconcilerHarness(ledger, claims)


def goes_down(lan: ReconcilerHarness, *leases: Lease, waiting: tuple[Lease, ...] = ()) -> None:
    """The PC that renders these falls silent."""
    busy = tuple(slot(lease) for lease in leases) + tuple(slot(lease, Stage.WAITING) for lease in waiting)
    lan.sees(node(leases[0].node_id or "", busy=busy))
    lan.sees()


def rendered_anew(lan: ReconcilerHarness, lease: Lease, node_id: str) -> Lease:
    lan.ledger.apply(lease.id, LeaseEvent.ORDER, node_id=node_id)
    return lan.ledger.apply(lease.id, LeaseEvent.START)


def test_two_pcs_that_go_down_make_a_suspect_of_what_they_rendered_and_of_nothing_else(
    lan: ReconcilerHarness, ledger: Ledger
) -> None:
    killer, beside = rendering(ledger, "0001", "n1"), rendering(ledger, "0002", "n1")
    goes_down(lan, killer, waiting=(beside,))
    killer, beside = rendered_anew(lan, killer, "n2"), rendered_anew(lan, beside, "n2")
    goes_down(lan, killer, waiting=(beside,))
    assert (ledger.get(killer.id).nodes_lost, ledger.get(beside.id).nodes_lost) == (2, 0)
    assert ledger.get(killer.id).is_suspect
    killer = rendered_anew(lan, killer, "n3")
    goes_down(lan, killer)
    assert lan.state(killer) is LeaseState.FAILED


def test_a_worker_that_is_started_anew_counts_as_one_that_went_down(lan: ReconcilerHarness, ledger: Ledger) -> None:
    killer, waiting = rendering(ledger, "0001", "n1"), rendering(ledger, "0002", "n1")
    lan.sees(node("n1", busy=(slot(killer), slot(waiting, Stage.WAITING))))
    lan.sweeper.joined(join("n1"))
    assert (ledger.get(killer.id).nodes_lost, ledger.get(waiting.id).nodes_lost) == (1, 0)
    killer = rendered_anew(lan, killer, "n1")
    lan.sees(node("n1", busy=()))
    lan.sweeper.joined(join("n1"))
    assert ledger.get(killer.id).is_suspect, "its record came too late to name it"


def test_an_order_that_never_began_is_no_suspect(lan: ReconcilerHarness, ledger: Ledger) -> None:
    lease = lan.ordered("0001", "n1")
    lan.sees(node("n1"))
    lan.sees()
    assert (ledger.get(lease.id).nodes_lost, lan.state(lease)) == (0, LeaseState.GRANTED)
