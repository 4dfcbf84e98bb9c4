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
def harness(ledger: Ledger, claims: Claims) -> ReconcilerHarness:
    return ReconcilerHarness(ledger, claims)


def goes_down(harness: ReconcilerHarness, *leases: Lease, waiting: tuple[Lease, ...] = ()) -> None:
    """The PC that renders these falls silent."""
    busy = tuple(slot(lease) for lease in leases) + tuple(slot(lease, Stage.WAITING) for lease in waiting)
    harness.sees(node(leases[0].node_id or "", busy=busy))
    harness.sees()


def rendered_anew(harness: ReconcilerHarness, lease: Lease, node_id: str) -> Lease:
    harness.ledger.apply(lease.id, LeaseEvent.ORDER, node_id=node_id)
    return harness.ledger.apply(lease.id, LeaseEvent.START)


def test_two_pcs_that_go_down_make_a_suspect_of_what_they_rendered_and_of_nothing_else(
    harness: ReconcilerHarness, ledger: Ledger
) -> None:
    killer, beside = rendering(ledger, "0001", "n1"), rendering(ledger, "0002", "n1")
    goes_down(harness, killer, waiting=(beside,))
    killer, beside = rendered_anew(harness, killer, "n2"), rendered_anew(harness, beside, "n2")
    goes_down(harness, killer, waiting=(beside,))
    assert (ledger.get(killer.id).nodes_lost, ledger.get(beside.id).nodes_lost) == (2, 0)
    assert ledger.get(killer.id).is_suspect
    killer = rendered_anew(harness, killer, "n3")
    goes_down(harness, killer)
    assert harness.state(killer) is LeaseState.FAILED


def test_a_worker_that_is_started_anew_counts_as_one_that_went_down(harness: ReconcilerHarness, ledger: Ledger) -> None:
    killer, waiting = rendering(ledger, "0001", "n1"), rendering(ledger, "0002", "n1")
    harness.sees(node("n1", busy=(slot(killer), slot(waiting, Stage.WAITING))))
    harness.sweeper.joined(join("n1"))
    assert (ledger.get(killer.id).nodes_lost, ledger.get(waiting.id).nodes_lost) == (1, 0)
    killer = rendered_anew(harness, killer, "n1")
    harness.sees(node("n1", busy=()))
    harness.sweeper.joined(join("n1"))
    assert ledger.get(killer.id).is_suspect, "its record came too late to name it"


def test_an_order_that_never_began_is_no_suspect(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = harness.ordered("0001", "n1")
    harness.sees(node("n1"))
    harness.sees()
    assert (ledger.get(lease.id).nodes_lost, harness.state(lease)) == (0, LeaseState.GRANTED)
