"""A node opens what its coordinator signed: once, in time, and nothing else."""

from __future__ import annotations

import dataclasses
import logging
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from render_tasks.broker.refusals import Refusals, Refused
from render_tasks.orders.opening import MessageOpener, ReplayMemory
from sheepfold.contract.errors import AgeUnknown, ContractError, ExpiredMessage, ForgedMessage, ReplayedMessage
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.signing import (
    CANCEL_GOOD_FOR_S,
    CLOCKS_DIFFER_S,
    ORDER_GOOD_FOR_S,
    Cancel,
    SignedMessage,
    Stamp,
    sign_cancel,
    sign_order,
)
from tests.support.wire.contract_messages import CANCEL, FARM, KEY, ORDER


class FakeClock:
    """Redis' time: what was heard last, and what it says when it is asked."""

    def __init__(self) -> None:
        self.heard: float | None = 1_000_000.0
        self.redis: float | None = 1_000_000.0

    def set(self, time: float) -> None:
        self.heard = self.redis = time

    def now(self) -> float | None:
        return self.heard

    def ask_again(self) -> float | None:
        self.heard = self.redis
        return self.redis


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture
def opener(clock: FakeClock, refusals: Refusals) -> MessageOpener:
    return MessageOpener(FARM, "n1", clock, refusals)


def ordered(sent_at: float = 1_000_000.0, order: RenderOrder = ORDER) -> SignedMessage:
    return sign_order(order, Stamp(farm_id="f1", sent_at=sent_at), KEY)


def cancelled(sent_at: float = 1_000_000.0, cancel: Cancel = CANCEL) -> SignedMessage:
    return sign_cancel(cancel, Stamp(farm_id="f1", sent_at=sent_at), KEY)


def test_an_order_opens_once(opener: MessageOpener, clock: FakeClock, refusals: Refusals) -> None:
    assert opener.order(ordered()) == ORDER
    with pytest.raises(ReplayedMessage):
        opener.order(ordered())
    clock.set(1_000_000.0 + ORDER_GOOD_FOR_S)
    with pytest.raises(ReplayedMessage):
        opener.order(ordered())
    clock.set(1_000_001.0 + ORDER_GOOD_FOR_S)
    with pytest.raises(ExpiredMessage):
        opener.order(ordered())
    assert refusals.counts[Refused.ORDER] == 3


def test_the_same_attempt_does_not_open_under_another_stamp(opener: MessageOpener) -> None:
    opener.order(ordered(999_999.0))
    with pytest.raises(ReplayedMessage):
        opener.order(ordered(1_000_000.0))


def test_another_attempt_is_another_order(opener: MessageOpener) -> None:
    opener.order(ordered())
    again = dataclasses.replace(ORDER, attempt=2)
    assert opener.order(ordered(order=again)) == again


def test_a_worker_that_was_started_anew_remembers_nothing(
    opener: MessageOpener, clock: FakeClock, refusals: Refusals
) -> None:
    opener.order(ordered())
    assert MessageOpener(FARM, "n1", clock, refusals).order(ordered()) == ORDER


def test_what_was_refused_is_not_remembered(opener: MessageOpener) -> None:
    forged = sign_order(ORDER, Stamp(farm_id="f1", sent_at=1_000_000.0), Ed25519PrivateKey.generate())
    with pytest.raises(ForgedMessage):
        opener.order(forged)
    assert opener.order(ordered()) == ORDER


def test_of_two_threads_with_the_same_order_one_opens_it(opener: MessageOpener) -> None:
    both, outcomes = threading.Barrier(8), []

    def open_it() -> None:
        both.wait(5)
        try:
            outcomes.append(opener.order(ordered()))
        except ReplayedMessage as error:
            outcomes.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert outcomes.count(ORDER) == 1
    assert len(outcomes) == 8


def test_a_cancel_opens_once_and_the_next_one_as_well(opener: MessageOpener, refusals: Refusals) -> None:
    assert opener.cancel(cancelled()) == CANCEL
    with pytest.raises(ReplayedMessage):
        opener.cancel(cancelled())
    assert opener.cancel(cancelled(1_000_001.0)) == CANCEL, "the coordinator says it again while the attempt goes on"
    with pytest.raises(ExpiredMessage):
        opener.cancel(cancelled(999_999.0 - CANCEL_GOOD_FOR_S))
    assert refusals.counts[Refused.CANCEL] == 2


@pytest.mark.parametrize("behind_s", [3600.0, -3600.0], ids=["our PC slept", "Redis' clock was set back"])
def test_before_an_order_is_refused_for_its_time_redis_is_asked_again(
    opener: MessageOpener, clock: FakeClock, behind_s: float
) -> None:
    clock.set(1_000_000.0)
    clock.redis = 1_000_000.0 + behind_s
    assert opener.order(ordered(clock.redis)) == ORDER


def test_without_the_time_no_order_opens(opener: MessageOpener, clock: FakeClock) -> None:
    clock.heard = None
    with pytest.raises(AgeUnknown):
        opener.order(ordered())
    clock.heard = 1_000_000.0
    assert opener.order(ordered()) == ORDER


def test_each_type_of_refusal_is_told_in_one_line(opener: MessageOpener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    opener.order(ordered())
    for signed in (ordered(), ordered(), ordered(1.0), SignedMessage(text="{}", signature="x")):
        with pytest.raises(ContractError):
            opener.order(signed)
    assert [record.message for record in caplog.records] == [
        "refused an order: it was followed here before (1 since the start)",
        "refused an order: it was sent 999999 s ago by Redis' clock, and is good for 900 s (3 since the start)",
        "refused an order: it is not signed by this farm's coordinator (4 since the start)",
    ]


def test_the_memory_is_bounded_and_what_fell_out_of_it_is_refused() -> None:
    memory = ReplayMemory(900.0, most=10)
    for number in range(25):
        memory.add(f"order {number}", float(number), now=30.0)
    assert len(memory) == 10
    with pytest.raises(ExpiredMessage):
        memory.add("order 3", 3.0, now=30.0)
    with pytest.raises(ReplayedMessage):
        memory.add("order 20", 20.0, now=30.0)
    memory.add("order 30", 30.0, now=30.0)


def test_what_is_no_longer_good_needs_no_memory() -> None:
    memory = ReplayMemory(900.0)
    for number in range(100):
        memory.add(f"order {number}", 1000.0 * number, now=1000.0 * number + CLOCKS_DIFFER_S)
    assert len(memory) == 1


def test_a_clock_that_is_set_back_shuts_nobody_out() -> None:
    memory = ReplayMemory(900.0, most=2)
    for number in range(5):
        memory.add(f"order {number}", 10_000.0 + number, now=10_000.0)
    memory.add("after it was set back", 6_000.0, now=6_000.0)
