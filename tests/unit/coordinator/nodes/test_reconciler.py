"""Leases and PCs brought back together: fake nodes, a real ledger, real claims."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from coordinator.delivery.claims import Claims
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.reconciler import Reconciler
from coordinator.nodes.registry import NodeRegistry, Sweep
from sheepfold.contract.api_messages import CONTRACT_VERSION, JoinRequest
from sheepfold.contract.presence import NODE_SILENT_AFTER_S, Compute, Presence, Stage
from tests.support.coordinator.builders import ClaimRecord, offer, rendering, report
from tests.support.coordinator.fakes import HARDWARE, NODE_SECRET, node, slot


@dataclass
class FakeNodes:
    """The LAN as the test says; an error is raised as long as it is set."""

    present: dict[str, Presence] = field(default_factory=dict)
    settled: bool = True
    error: Exception | None = None
    forget_error: Exception | None = None
    forgotten: list[str] = field(default_factory=list)
    #: Node id → orders that lie in its queue.
    queues: dict[str, int] = field(default_factory=dict)
    before: dict[str, Presence] = field(default_factory=dict)

    def sweep(self) -> Sweep:
        if self.error is not None:
            raise self.error
        before, self.before = self.before, dict(self.present)
        return Sweep(
            present=dict(self.present),
            lost=tuple(sorted(before.keys() - self.present.keys())),
            returned=tuple(sorted(self.present.keys() - before.keys())),
            settled=self.settled,
        )

    def waiting_orders(self, node_ids: Collection[str]) -> dict[str, int]:
        if self.error is not None:
            raise self.error
        return {node_id: self.queues.get(node_id, 0) for node_id in node_ids}

    def forget(self, node_id: str) -> None:
        if self.forget_error is not None:
            raise self.forget_error
        self.forgotten.append(node_id)


class FakeStalls:
    """Remembers which nodes take nothing; what happens to their leases is another file's subject."""

    def __init__(self) -> None:
        self.stalled: dict[str, int] = {}

    def stalled_nodes(self) -> Collection[str]:
        return self.stalled

    def node_takes_nothing(self, node: Presence, waiting: int) -> None:
        self.stalled[node.node_id] = waiting

    def node_takes_orders(self, node_id: str) -> None:
        del self.stalled[node_id]


class ReconcilerHarness:
    """A sweeper, the PCs it looks at, and whom it told to drop what."""

    def __init__(self, ledger: Ledger, claims: Claims) -> None:
        self.ledger, self.nodes = ledger, FakeNodes()
        #: Node, lease, attempt.
        self.cancelled: list[tuple[str, str, int]] = []
        self.ahead_s = 0.0
        self.present, self.stalls = PresentNodes(), FakeStalls()
        self.sweeper = Reconciler(
            cast("NodeRegistry", self.nodes),
            self.present,
            ledger,
            claims,
            lambda *what: self.cancelled.append(what),
            self.stalls,
            clock=lambda: max([lease.changed_at for lease in ledger.leases()], default=0.0) + self.ahead_s,
        )

    def sees(self, *present: Presence) -> bool:
        self.nodes.present = {presence.node_id: presence for presence in present}
        return self.sweeper.sweep_once()

    def ordered(self, frame: str = "0012", node_id: str = "n1") -> Lease:
        lease = self.ledger.grant(offer(frame), "farm:linux/64bit")
        return self.ledger.apply(lease.id, LeaseEvent.ORDER, node_id=node_id)

    def state(self, lease: Lease) -> LeaseState:
        return self.ledger.get(lease.id).state


@pytest.fixture
def harness(ledger: Ledger, claims: Claims) -> ReconcilerHarness:
    return ReconcilerHarness(ledger, claims)


def join(node_id: str = "n1", *, fresh: bool = True, kept: tuple[str, ...] = ()) -> JoinRequest:
    return JoinRequest(
        contract_version=CONTRACT_VERSION,
        node_id=node_id,
        secret=NODE_SECRET,
        wanted_name=node_id,
        hardware=HARDWARE,
        slots=1,
        compute=Compute.CPU,
        fresh=fresh,
        kept=kept,
    )


# Silence


def test_the_leases_of_a_silent_pc_go_back_at_once_and_nobody_elses(
    harness: ReconcilerHarness, ledger: Ledger, claim_record: ClaimRecord
) -> None:
    mine, waiting = rendering(ledger, "0001", "n1"), harness.ordered("0002", "n1")
    others, theirs = rendering(ledger, "0003", "n2"), harness.ordered("0004", "n2")
    n2 = node("n2", busy=(slot(others), slot(theirs)))
    harness.sees(node("n1", busy=(slot(mine),)), n2)
    assert not claim_record.returned

    assert harness.sees(n2)
    for lease in (mine, waiting):
        back = ledger.get(lease.id)
        assert (back.state, back.attempt, back.failures) == (LeaseState.GRANTED, 2, 0)
    assert ledger.get(others.id) == others
    assert ledger.get(theirs.id) == theirs
    assert harness.nodes.forgotten == ["n1"]


def test_a_frame_that_arrived_stays_whatever_becomes_of_its_pc(
    harness: ReconcilerHarness, ledger: Ledger, claims: Claims
) -> None:
    lease = rendering(ledger)
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    harness.sees(node("n1"))
    harness.ahead_s = 1000
    harness.sees()
    assert harness.state(lease) is LeaseState.DELIVERED


def test_leases_from_before_a_restart_go_back_when_their_pc_does_not_come(
    harness: ReconcilerHarness, ledger: Ledger
) -> None:
    lease = rendering(ledger)
    harness.nodes.settled = False
    harness.sees()
    assert harness.state(lease) is LeaseState.RENDERING, "it may not have been able to write yet"
    harness.nodes.settled = True
    assert harness.sees()
    assert harness.state(lease) is LeaseState.GRANTED


def test_while_silence_proves_nothing_nothing_is_taken_back(harness: ReconcilerHarness, ledger: Ledger) -> None:
    gone, unknown, lost = (
        rendering(ledger, "0001", "n1"),
        rendering(ledger, "0002", "n2"),
        harness.ordered("0003", "n2"),
    )
    harness.sees(node("n1", busy=(slot(gone),)), node("n2"))
    harness.nodes.settled, harness.ahead_s = False, 1000
    harness.sees(node("n2"))
    assert [harness.state(lease) for lease in (gone, unknown, lost)] == [
        LeaseState.RENDERING,
        LeaseState.RENDERING,
        LeaseState.ORDERED,
    ]


def test_without_redis_everything_stays_and_it_is_said_once(
    harness: ReconcilerHarness, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    lease = rendering(ledger)
    present = node("n1", busy=(slot(lease),))
    harness.sees(present)
    caplog.set_level(logging.INFO)
    harness.nodes.error, harness.ahead_s = BrokerUnreachable("ConnectionError"), 1000
    for _ in range(5):
        assert not harness.sees()
    assert harness.present.nodes == {"n1": present}
    assert ledger.get(lease.id) == lease
    assert [record.levelname for record in caplog.records] == ["ERROR"]

    caplog.clear()
    harness.nodes.error = None
    harness.sees(present)
    harness.sees(present)
    assert [record.getMessage() for record in caplog.records] == ["Redis is back"]
    harness.nodes.error = BrokerUnreachable("ConnectionError")
    harness.sees()
    assert caplog.records[-1].levelname == "ERROR", "the next outage is told again"


def test_redis_may_go_away_in_the_middle_of_a_sweep(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = rendering(ledger)
    harness.sees(node("n1", busy=(slot(lease),)))
    harness.nodes.forget_error = BrokerUnreachable("ConnectionError")
    harness.sees()
    harness.nodes.forget_error = None
    harness.sees()
    assert harness.state(lease) is LeaseState.GRANTED


# Leases that are not a node's own


@pytest.mark.parametrize("stage", [Stage.FETCHING, Stage.WAITING, Stage.RENDERING])
def test_a_pc_that_still_holds_a_cancelled_frame_is_told_again_and_again(
    harness: ReconcilerHarness, ledger: Ledger, stage: Stage
) -> None:
    lease = rendering(ledger)
    ledger.apply(lease.id, LeaseEvent.CANCEL)
    for count in (1, 2, 3):
        harness.sees(node("n1", busy=(slot(lease, stage),)))
        assert harness.cancelled == [("n1", lease.id, 1)] * count


def test_a_pc_that_holds_an_older_attempt_is_told_to_drop_that_one_and_nobody_else(
    harness: ReconcilerHarness, ledger: Ledger, claims: Claims
) -> None:
    lease = rendering(ledger, node="n1")
    claims.take_back(lease, "its PC fell silent")
    unnamed_node = node("n1", busy=(slot(lease, attempt=1),))
    harness.sees(unnamed_node)
    assert harness.cancelled == [("n1", lease.id, 1)], "the lease waits for a PC"

    ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n2")
    second = ledger.apply(lease.id, LeaseEvent.START)
    harness.sees(unnamed_node, node("n2", busy=(slot(second),)))
    assert harness.cancelled == [("n1", lease.id, 1)] * 2, "n2 renders what is its own"
    assert ledger.get(lease.id) == second


def test_a_pc_that_holds_another_pcs_lease_is_told_to_drop_it(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = rendering(ledger, node="n2")
    harness.sees(node("n1", busy=(slot(lease),)), node("n2", busy=(slot(lease),)))
    assert harness.cancelled == [("n1", lease.id, 1)]


def test_a_pc_that_delivers_is_left_to_the_fence(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = rendering(ledger)
    ledger.apply(lease.id, LeaseEvent.CANCEL)
    harness.sees(node("n1", busy=(slot(lease, Stage.DELIVERING),)))
    assert not harness.cancelled


@pytest.mark.parametrize("event", [None, LeaseEvent.START, LeaseEvent.DELIVER])
def test_a_pc_that_holds_what_is_its_own_is_not_disturbed(harness: ReconcilerHarness, event: LeaseEvent | None) -> None:
    lease = harness.ordered()
    for passed in {None: [], LeaseEvent.START: [LeaseEvent.START]}.get(event, [LeaseEvent.START, LeaseEvent.DELIVER]):
        lease = harness.ledger.apply(lease.id, passed)
    harness.ahead_s = 1000
    harness.sees(node("n1", busy=(slot(lease),)))
    assert not harness.cancelled
    assert harness.ledger.get(lease.id) == lease


def test_a_lease_nobody_knows_is_rendered_for_nothing(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = rendering(ledger)
    harness.sees(node("n1", busy=(replace(slot(lease), lease_id="f" * 32, attempt=4), slot(lease))))
    assert harness.cancelled == [("n1", "f" * 32, 4)]
    assert harness.state(lease) is LeaseState.RENDERING


# Workers that started anew


def test_a_frame_its_pc_no_longer_renders_goes_back_once_the_record_must_be_newer(
    harness: ReconcilerHarness, ledger: Ledger
) -> None:
    lease = rendering(ledger)
    harness.ahead_s = NODE_SILENT_AFTER_S
    harness.sees(node())
    assert harness.state(lease) is LeaseState.RENDERING, "the record may be from before the start"
    harness.ahead_s = NODE_SILENT_AFTER_S + 1
    assert harness.sees(node())
    assert harness.state(lease) is LeaseState.GRANTED


def test_a_new_worker_process_has_none_of_the_leases_of_the_one_before(
    harness: ReconcilerHarness, ledger: Ledger, claim_record: ClaimRecord
) -> None:
    renders, waits = rendering(ledger, "0001"), harness.ordered("0002")
    others = rendering(ledger, "0003", "n2")
    harness.sees(node(busy=(slot(renders),)), node("n2", busy=(slot(others),)))
    harness.sweeper.joined(join())
    assert [harness.state(lease) for lease in (renders, waits, others)] == [
        LeaseState.GRANTED,
        LeaseState.GRANTED,
        LeaseState.RENDERING,
    ]
    assert "started anew" in claim_record.returned[0].reason


def test_a_worker_that_only_asks_again_keeps_its_leases(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = rendering(ledger)
    harness.sees(node(busy=(slot(lease),)))
    harness.sweeper.joined(join(fresh=False))
    assert ledger.get(lease.id) == lease


def test_a_pc_that_was_never_here_takes_nothing_from_anybody(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = rendering(ledger)
    harness.sees(node(busy=(slot(lease),)))
    harness.sweeper.joined(join("n9"))
    assert ledger.get(lease.id) == lease


def test_a_kept_frame_counts_only_under_its_current_attempt(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = rendering(ledger)
    harness.sees(node(busy=(slot(lease),)))
    harness.sweeper.joined(join(kept=(f"{lease.id}.7",)))
    assert harness.state(lease) is LeaseState.GRANTED


@pytest.mark.parametrize("known", [True, False])
def test_frames_a_restarted_worker_kept_are_not_taken_back_before_they_are_delivered(
    harness: ReconcilerHarness, ledger: Ledger, claims: Claims, known: bool
) -> None:
    first, second, lost = rendering(ledger, "0001"), rendering(ledger, "0002"), rendering(ledger, "0003")
    harness.ahead_s = 600
    if known:
        harness.sees(node(slots=3, busy=(slot(first), slot(second), slot(lost))))
    harness.sweeper.joined(join(kept=(f"{first.id}.1", f"{second.id}.1")))
    # It delivers one after the other, and so it says.
    harness.sees(node(slots=3, busy=(slot(first, Stage.DELIVERING),)))
    assert [harness.state(lease) for lease in (first, second, lost)] == [
        LeaseState.RENDERING,
        LeaseState.RENDERING,
        LeaseState.GRANTED,
    ]
    claims.deliver(second.id, 1, "n1", report(), [b"PNG data"])
    assert harness.state(second) is LeaseState.DELIVERED


def test_a_worker_that_kept_frames_and_fell_silent_loses_them(harness: ReconcilerHarness, ledger: Ledger) -> None:
    lease = rendering(ledger)
    harness.sees(node(busy=(slot(lease),)))
    harness.sweeper.joined(join(kept=(f"{lease.id}.1",)))
    harness.sees(node())
    harness.sees()
    assert harness.state(lease) is LeaseState.GRANTED


# What the loop is told


def test_a_sweep_says_whether_something_is_new(harness: ReconcilerHarness, ledger: Ledger) -> None:
    assert harness.sees(node())
    assert not harness.sees(node())
    assert harness.sees(node(accepting=False))
    assert harness.sees(node(accepting=False), node("n2"))
    assert not harness.sees(node(accepting=False), node("n2"))


@pytest.mark.parametrize("set_by", [3600.0, -3600.0])
def test_a_restart_with_another_time_takes_nothing_from_a_pc_that_has_just_begun(
    harness: ReconcilerHarness, ledger: Ledger, claims: Claims, set_by: float
) -> None:
    """The lease was started by a clock that was an hour off, a moment before its PC's record could show it."""
    lease = harness.ordered()
    claims.start(lease.id, 1, "n1", "word")
    now = [ledger.get(lease.id).changed_at + set_by]
    harness.sweeper = Reconciler(
        cast("NodeRegistry", harness.nodes),
        harness.present,
        ledger,
        claims,
        lambda *what: harness.cancelled.append(what),
        harness.stalls,
        clock=lambda: now[0],
    )
    now[0] += 1
    harness.sees(node())
    assert harness.state(lease) is LeaseState.RENDERING
    now[0] += NODE_SILENT_AFTER_S
    harness.sees(node())
    assert harness.state(lease) is LeaseState.GRANTED, "in time, it is still found to be lost"


def test_of_what_a_join_says_it_kept_only_its_own_leases_are_remembered(
    harness: ReconcilerHarness, ledger: Ledger
) -> None:
    mine, others = rendering(ledger, "0001", "n1"), rendering(ledger, "0002", "n2")
    invented = tuple(f"{number}.1" for number in range(2000))
    harness.sweeper.joined(join("n1", kept=(f"{mine.id}.1", f"{others.id}.1", *invented)))
    assert harness.sweeper._kept == {"n1": {f"{mine.id}.1"}}
    assert harness.state(mine) is LeaseState.RENDERING
