"""An address joins so often and no more."""

from __future__ import annotations

import pytest

from coordinator.nodes.errors import TooManyJoins
from coordinator.nodes.join_rate import BURST, MOST_ADDRESSES, PER_S, JoinRate
from tests.support.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def rate(clock: ManualClock) -> JoinRate:
    return JoinRate(clock)


def joins_until_refused(rate: JoinRate, address: str, at_most: int = 10_000) -> int:
    for number in range(at_most):
        try:
            rate.count(address)
        except TooManyJoins:
            return number
    return at_most


def test_a_whole_studio_may_join_at_once_and_then_at_a_pace(rate: JoinRate, clock: ManualClock) -> None:
    assert joins_until_refused(rate, "10.0.0.9") == BURST
    clock.now += 2
    assert joins_until_refused(rate, "10.0.0.9") == 2 * PER_S
    assert joins_until_refused(rate, "10.0.0.8") == BURST, "another address has its own"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.7", "::1"])
def test_processes_of_this_machine_are_not_counted(rate: JoinRate, address: str) -> None:
    assert joins_until_refused(rate, address, 1000) == 1000


def test_no_more_addresses_are_remembered_than_there_is_room_for(rate: JoinRate) -> None:
    for number in range(MOST_ADDRESSES + 500):
        rate.count(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
    assert len(rate._left) == MOST_ADDRESSES
