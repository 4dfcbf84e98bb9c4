"""Orders that were lost on their way, that waited too long, and that their node leaves in its queue."""

from __future__ import annotations

import pytest

from coordinator.delivery.claims import Claims
from coordinator.leases.lease import LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.nodes.reconciler import ORDER_LOST_AFTER_S
from sheepfold.contract.presence import NODE_SILENT_AFTER_S, Stage
from sheepfold.contract.signing import ORDER_GOOD_FOR_S
from tests.support.coordinator.builders import rendering
from tests.support.coordinator.fakes import node, slot
from tests.unit.coordinator.nodes.test_reconciler import ReconcilerHarness


@pytest.fixture
def lan(ledger: Ledger, claims: Claims) -> ReconcilerHarness:
    return ReconcilerHarness(ledger, claims)


def test_an_order_lost_on_its_way_goes_back_after_a_while(lan: ReconcilerHarness) -> None:
    lease = lan.ordered()
    lan.ahead_s = ORDER_LOST_AFTER_S - 1
    lan.sees(node())
    assert lan.state(lease) is LeaseState.ORDERED
    lan.ahead_s = ORDER_LOST_AFTER_S + 1
    assert lan.sees(node())
    assert (lan.state(lease), lan.ledger.get(lease.id).attempt) == (LeaseState.GRANTED, 2)


def test_an_order_that_waits_behind_a_long_render_is_not_lost(lan: ReconcilerHarness, ledger: Ledger) -> None:
    renders, waits = rendering(ledger, "0001"), lan.ordered("0002")
    lan.ahead_s = ORDER_GOOD_FOR_S
    lan.sees(node(busy=(slot(renders),)))
    assert lan.state(waits) is LeaseState.ORDERED
    lan.ahead_s = 24 * 3600
    lan.sees(node(busy=(slot(renders), slot(waits, stage=Stage.WAITING))))
    assert lan.state(waits) is LeaseState.ORDERED, "its node has opened it"


def test_an_order_that_its_node_would_refuse_by_now_goes_back(lan: ReconcilerHarness, ledger: Ledger) -> None:
    renders, waits = rendering(ledger, "0001"), lan.ordered("0002")
    lan.ahead_s = ORDER_GOOD_FOR_S + NODE_SILENT_AFTER_S + 1
    assert lan.sees(node(busy=(slot(renders),)))
    assert (lan.state(waits), lan.ledger.get(waits.id).attempt) == (LeaseState.GRANTED, 2)
    assert lan.state(renders) is LeaseState.RENDERING


def test_a_node_with_a_free_slot_that_leaves_its_orders_in_its_queue_takes_nothing(lan: ReconcilerHarness) -> None:
    lan.ordered()
    lan.nodes.queues = {"n1": 3, "n2": 9}
    lan.ahead_s = ORDER_LOST_AFTER_S - 1
    lan.sees(node("n1"), node("n2"))
    assert lan.stalls.stalled == {}, "it may be about to take them"
    lan.ahead_s = ORDER_LOST_AFTER_S + 1
    assert lan.sees(node("n1"), node("n2"))
    assert lan.stalls.stalled == {"n1": 3}
    lan.sees(node("n1"), node("n2"))
    assert lan.stalls.stalled == {"n1": 3}
    lan.nodes.queues = {"n1": 1}
    lan.sees(node("n1"), node("n2"))
    assert lan.stalls.stalled == {"n1": 3}
    lan.nodes.queues = {}
    lan.sees(node("n1"), node("n2"))
    assert lan.stalls.stalled == {}


def test_an_order_that_redis_lost_makes_nobody_stalled(lan: ReconcilerHarness) -> None:
    lease = lan.ordered()
    lan.ahead_s = ORDER_LOST_AFTER_S + 1
    lan.sees(node())
    assert lan.stalls.stalled == {}
    assert lan.state(lease) is LeaseState.GRANTED


def test_a_node_whose_slots_are_all_busy_may_leave_its_orders_waiting(lan: ReconcilerHarness, ledger: Ledger) -> None:
    renders = rendering(ledger, "0001")
    lan.ordered("0002")
    lan.nodes.queues = {"n1": 1}
    lan.ahead_s = 600
    lan.sees(node(busy=(slot(renders),)))
    assert lan.stalls.stalled == {}
