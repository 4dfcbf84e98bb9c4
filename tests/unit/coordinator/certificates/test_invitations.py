"""One code, one PC, fifteen minutes."""

from __future__ import annotations

import pytest

from coordinator.certificates.errors import BadInvitation, TooManyInvitations
from coordinator.certificates.invitations import MOST_OPEN, VALID_S, Invitations
from sheepfold.serving.errors import TooManyGuesses
from tests.support.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def invitations(clock: ManualClock) -> Invitations:
    return Invitations(clock)


def test_a_code_lets_one_key_in_and_the_same_one_again_when_its_answer_was_lost(invitations: Invitations) -> None:
    code = invitations.issue()
    invitations.redeem(code, b"key of pc 1", "10.0.0.1")
    invitations.redeem(code, b"key of pc 1", "10.0.0.1")
    with pytest.raises(BadInvitation, match="used already"):
        invitations.redeem(code, b"key of pc 2", "10.0.0.2")


def test_a_code_ends(invitations: Invitations, clock: ManualClock) -> None:
    code, used = invitations.issue(), invitations.issue()
    invitations.redeem(used, b"key", "10.0.0.1")
    clock.now += VALID_S - 1
    invitations.redeem(used, b"key", "10.0.0.1")
    clock.now += 2
    for old in (code, used):
        with pytest.raises(BadInvitation):
            invitations.redeem(old, b"key", "10.0.0.1")


def test_wrong_codes_are_refused_and_slow_their_address_down_alone(invitations: Invitations) -> None:
    code = invitations.issue()
    for _ in range(6):
        with pytest.raises(BadInvitation):
            invitations.redeem("0" * 40, b"key", "10.0.0.66")
    with pytest.raises(TooManyGuesses, match="invitation"):
        invitations.redeem(code, b"key", "10.0.0.66")
    invitations.redeem(code, b"key", "10.0.0.1")


def test_no_two_codes_are_alike_and_none_is_short(invitations: Invitations) -> None:
    codes = {invitations.issue() for _ in range(MOST_OPEN)}
    assert len(codes) == MOST_OPEN
    assert min(map(len, codes)) == 40


def test_so_many_are_open_at_a_time_and_used_ones_do_not_count(invitations: Invitations, clock: ManualClock) -> None:
    codes = [invitations.issue() for _ in range(MOST_OPEN)]
    with pytest.raises(TooManyInvitations, match="100 invitations are open"):
        invitations.issue()
    invitations.redeem(codes[0], b"key", "10.0.0.1")
    invitations.issue()
    with pytest.raises(TooManyInvitations):
        invitations.issue()
    clock.now += VALID_S + 1
    invitations.issue()
