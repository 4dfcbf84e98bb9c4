"""The lease's table, driven with every order of events, duplicates and late arrivals."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.leases import lease as leases
from coordinator.leases.errors import IllegalTransition, NothingHeldBack, StaleAttempt
from coordinator.leases.lease import (
    ACTIVE,
    ENDED,
    TRANSITIONS,
    Delivery,
    HeldBack,
    Lease,
    LeaseEvent,
    LeaseState,
    advance,
)
from sheepfold.protocol.messages import JobOffer, RendererOffer

S, E = LeaseState, LeaseEvent

OFFER = JobOffer(
    job_id="12",
    frame="0340",
    path="shots/demo.blend",
    use_gpu=False,
    archive_md5="a" * 32,
    revision="1",
    renderer=RendererOffer(md5="b" * 32, command_line=".e -b .c -o .o -f .f -x 1"),
    script="import bpy",
)
DELIVERY = Delivery(picture="ab.1.png", size=10, render_s=1.5, memory_kb=2, cores=4)
HELD_BACK = HeldBack(node_id="n0", delivery=Delivery(picture="ab.0.png", size=9, render_s=1, memory_kb=2, cores=4))


def a_lease(**changes: object) -> Lease:
    return dataclasses.replace(Lease(id="ab", session_key="farm", offer=OFFER), **changes)


@pytest.mark.parametrize("state", S)
@pytest.mark.parametrize("event", E)
def test_every_pair_of_state_and_event_is_either_in_the_table_or_changes_nothing(
    state: LeaseState, event: LeaseEvent
) -> None:
    lease = a_lease(state=state, node_id="n1", held_back=HELD_BACK)
    if (state, event) in TRANSITIONS:
        assert advance(lease, event, delivery=DELIVERY).state is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransition) as caught:
            advance(lease, event, delivery=DELIVERY)
        assert (caught.value.state, caught.value.event) == (state, event)
    assert lease == a_lease(state=state, node_id="n1", held_back=HELD_BACK)


def test_no_event_leads_out_of_an_end() -> None:
    assert not [state for state, _ in TRANSITIONS if state in ENDED]


def test_every_active_lease_can_be_cancelled_and_lost() -> None:
    for state in ACTIVE:
        assert TRANSITIONS[state, E.CANCEL] is S.CANCELLED
        assert TRANSITIONS[state, E.LOSE] is S.LOST


def test_a_failed_attempt_raises_the_number_and_remembers_the_node() -> None:
    lease = advance(a_lease(state=S.RENDERING, node_id="n1"), E.FAIL, reason="crashed")
    assert (lease.state, lease.attempt, lease.node_id, lease.failures) == (S.GRANTED, 2, None, 1)
    assert (lease.tried_nodes, lease.reason) == (("n1",), "crashed")


def test_a_lost_node_raises_the_number_and_is_nobodys_fault() -> None:
    lease = advance(a_lease(state=S.RENDERING, node_id="n1"), E.RETRY)
    assert (lease.attempt, lease.failures, lease.tried_nodes) == (2, 0, ())


def test_a_spooled_picture_that_is_gone_is_rendered_again() -> None:
    lease = advance(a_lease(state=S.DELIVERED, node_id="n1", delivery=DELIVERY), E.RETRY)
    assert (lease.state, lease.attempt, lease.delivery) == (S.GRANTED, 2, None)


def test_a_picture_that_is_held_back_costs_no_failure_and_stays_with_the_lease_until_the_next_arrives() -> None:
    lease = advance(a_lease(state=S.RENDERING, node_id="n1"), E.HOLD_BACK, delivery=DELIVERY, reason="black")
    held_back = HeldBack(node_id="n1", delivery=DELIVERY)
    assert (lease.state, lease.attempt, lease.failures, lease.tried_nodes) == (S.GRANTED, 2, 0, ())
    assert (lease.held_back, lease.delivery, lease.node_id, lease.reason) == (held_back, None, None, "black")
    for event in (E.ORDER, E.START, E.FAIL, E.ORDER, E.RETRY, E.ORDER, E.START):
        lease = advance(lease, event, node_id="n2" if event is E.ORDER else None)
        assert lease.held_back == held_back
    second = dataclasses.replace(DELIVERY, picture="ab.4.png")
    lease = advance(lease, E.DELIVER, delivery=second)
    assert (lease.delivery, lease.held_back, lease.node_id) == (second, None, "n2")


@pytest.mark.parametrize("state", [S.GRANTED, S.ORDERED, S.RENDERING])
def test_a_picture_that_is_believed_is_delivered_in_the_name_of_who_made_it(state: LeaseState) -> None:
    lease = advance(a_lease(state=state, attempt=2, node_id="n1", held_back=HELD_BACK), E.BELIEVE)
    assert (lease.state, lease.attempt, lease.node_id, lease.held_back) == (S.DELIVERED, 2, "n0", None)
    assert lease.delivery == dataclasses.replace(HELD_BACK.delivery, is_confirmed=True)


def test_nothing_is_believed_that_was_not_held_back_and_nothing_is_held_back_that_did_not_arrive() -> None:
    with pytest.raises(NothingHeldBack):
        advance(a_lease(state=S.GRANTED), E.BELIEVE)
    with pytest.raises(NothingHeldBack):
        advance(a_lease(state=S.RENDERING, node_id="n1"), E.HOLD_BACK)


@given(st.integers(1, 5), st.integers(-1, 7), st.sampled_from(list(S)), st.sampled_from(list(E)))
def test_a_claim_with_another_attempt_is_stale_in_every_state(
    current: int, claimed: int, state: LeaseState, event: LeaseEvent
) -> None:
    if claimed == current:
        return
    with pytest.raises(StaleAttempt) as caught:
        advance(a_lease(state=state, attempt=current), event, attempt=claimed)
    assert (caught.value.claimed, caught.value.current) == (claimed, current)


class LeaseOfAnyHistory(RuleBasedStateMachine):
    """Nodes, server and operator say whatever they like, whenever they like, more than once and too late."""

    @initialize()
    def grant(self) -> None:
        self.lease = a_lease()
        self.renders_accepted = 0
        self.ends_seen: set[LeaseState] = set()
        self.highest_attempt = 1

    def say(self, event: LeaseEvent, **claim: object) -> None:
        before = dataclasses.replace(self.lease)
        try:
            after = advance(self.lease, event, **claim)  # type: ignore[arg-type]
        except (StaleAttempt, IllegalTransition, NothingHeldBack):
            assert self.lease == before
            return
        assert self.lease == before, "the given lease is never changed"
        assert after.state is TRANSITIONS[before.state, event]
        assert claim.get("attempt") in (None, before.attempt)
        assert after.attempt == before.attempt + (after.state is S.GRANTED)
        self.renders_accepted += event is E.ACCEPT
        self.lease = after

    @rule(node=st.sampled_from(["n1", "n2", "n3"]))
    def order(self, node: str) -> None:
        self.say(E.ORDER, node_id=node)

    @rule(attempt=st.integers(1, 6), event=st.sampled_from([E.START, E.FAIL, E.RETRY, E.GIVE_UP]))
    def a_node_claims(self, attempt: int, event: LeaseEvent) -> None:
        self.say(event, attempt=attempt)

    @rule(attempt=st.integers(1, 6))
    def a_picture_arrives(self, attempt: int) -> None:
        self.say(E.DELIVER, attempt=attempt, delivery=DELIVERY)

    @rule(attempt=st.integers(1, 6))
    def a_doubtful_picture_arrives(self, attempt: int) -> None:
        self.say(E.HOLD_BACK, attempt=attempt, delivery=DELIVERY)

    @rule(event=st.sampled_from([E.ACCEPT, E.REFUSE, E.LOSE]))
    def the_server_answers(self, event: LeaseEvent) -> None:
        self.say(event)

    @rule(event=st.sampled_from([E.RETRY, E.GIVE_UP, E.CANCEL, E.BELIEVE]))
    def the_coordinator_decides(self, event: LeaseEvent) -> None:
        self.say(event)

    @precondition(lambda self: self.lease.state in ACTIVE)
    @rule(node=st.sampled_from(["n1", "n2"]))
    def all_goes_well(self, node: str) -> None:
        attempt = self.lease.attempt
        for event, claim in (
            (E.ORDER, {"node_id": node}),
            (E.START, {"attempt": attempt}),
            (E.DELIVER, {"attempt": attempt, "delivery": DELIVERY}),
        ):
            self.say(event, **claim)
        assert self.lease.state is S.DELIVERED

    @invariant()
    def it_is_accepted_at_most_once(self) -> None:
        assert self.renders_accepted <= 1

    @invariant()
    def an_end_is_for_good(self) -> None:
        if self.lease.state in ENDED:
            self.ends_seen.add(self.lease.state)
        assert len(self.ends_seen) <= 1
        assert not self.ends_seen or self.lease.state in self.ends_seen

    @invariant()
    def attempts_only_grow(self) -> None:
        assert self.lease.attempt >= self.highest_attempt
        self.highest_attempt = self.lease.attempt

    @invariant()
    def the_fields_fit_the_state(self) -> None:
        state = self.lease.state
        if state in (S.ORDERED, S.RENDERING, S.DELIVERED, S.ACCEPTED, S.REFUSED):
            assert self.lease.node_id
        if state is S.GRANTED:
            assert self.lease.node_id is None
        if state in (S.DELIVERED, S.ACCEPTED, S.REFUSED):
            assert self.lease.delivery
            assert self.lease.held_back is None
        if state in (S.GRANTED, S.ORDERED, S.RENDERING):
            assert self.lease.delivery is None
        assert len(self.lease.tried_nodes) == self.lease.failures <= self.lease.attempt - 1


TestLeaseOfAnyHistory = LeaseOfAnyHistory.TestCase


@pytest.mark.parametrize(
    ("changed_at", "seconds"),
    [
        (1010.0, 20.0),
        (1000.0, 30.0),
        # Before our clock began, by another one that was right, an hour behind, or an hour ahead.
        (990.0, 30.0),
        (990.0 - 3600, 30.0),
        (990.0 + 3600, 30.0),
    ],
)
def test_how_long_a_lease_stands_still_is_measured_by_one_clock_only(changed_at: float, seconds: float) -> None:
    lease = Lease(id="1", session_key="k", offer=OFFER, changed_at=changed_at)
    assert leases.unchanged_s(lease, 1030.0, 1000.0) == seconds
