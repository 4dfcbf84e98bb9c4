"""Whose password it is, and how guesses are slowed."""

from __future__ import annotations

import pytest

from coordinator.access.password_check import BEARER, PasswordCheck
from coordinator.access.roles import Role
from sheepfold.serving.errors import TooManyGuesses
from sheepfold.serving.guesses import FREE_GUESSES, PAUSE_CAP_S
from tests.support.clocks import ManualClock

TOKEN = "a-token-of-the-farm"
PASSWORDS = {Role.VIEWER: "a-viewers-pässword", Role.OPERATOR: "an-operators", Role.ADMIN: "an-admins"}
HOME, ELSEWHERE = "10.0.0.7", "10.0.0.66"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def passwords(clock: ManualClock) -> PasswordCheck:
    return PasswordCheck(PASSWORDS, TOKEN, clock)


def guess(passwords: PasswordCheck, login: str, address: str, count: int = FREE_GUESSES + 1) -> None:
    for number in range(count):
        assert passwords.role_of(login, b"guess %d" % number, address) is None


@pytest.mark.parametrize("role", PASSWORDS)
def test_a_password_is_its_roles_as_login_and_as_bearer(passwords: PasswordCheck, role: Role) -> None:
    secret = PASSWORDS[role].encode()
    assert passwords.role_of(role, secret, HOME) is role
    assert passwords.role_of(BEARER, secret, HOME) is role
    for other in ("anna", "node", "root", *(other for other in PASSWORDS if other is not role)):
        assert passwords.role_of(other, secret, ELSEWHERE) is None


@pytest.mark.parametrize(
    "secret", [b"", b"\xff\xfe", b"an-admins ", b"an-admin", "a-viewers-pässword".encode("latin-1")]
)
def test_what_is_no_password_is_nobodys(passwords: PasswordCheck, secret: bytes) -> None:
    assert passwords.role_of(BEARER, secret, HOME) is None


def test_the_farm_token_is_a_nodes_and_no_guess(passwords: PasswordCheck) -> None:
    for _ in range(3 * FREE_GUESSES):
        assert passwords.role_of(BEARER, TOKEN.encode(), HOME) is Role.NODE
    assert passwords.role_of("viewer", TOKEN.encode(), HOME) is None


def test_guesses_of_a_login_are_slowed_wherever_they_come_from(passwords: PasswordCheck, clock: ManualClock) -> None:
    for number in range(FREE_GUESSES + 1):
        assert passwords.role_of("admin", b"guess %d" % number, f"10.0.1.{number}") is None
    with pytest.raises(TooManyGuesses):
        passwords.role_of("admin", b"an-admins", "10.0.2.1")
    assert passwords.role_of("viewer", PASSWORDS[Role.VIEWER].encode(), "10.0.2.1") is Role.VIEWER
    clock.now += PAUSE_CAP_S
    assert passwords.role_of("admin", b"an-admins", "10.0.2.1") is Role.ADMIN


def test_an_address_that_guesses_is_slowed_for_every_login(passwords: PasswordCheck) -> None:
    guess(passwords, "anna", ELSEWHERE)
    for login in ("admin", "viewer", BEARER):
        with pytest.raises(TooManyGuesses):
            passwords.role_of(login, b"an-admins", ELSEWHERE)
    assert passwords.role_of("admin", b"an-admins", HOME) is Role.ADMIN


def test_a_person_who_was_right_is_not_kept_waiting_by_guesses_from_elsewhere(passwords: PasswordCheck) -> None:
    assert passwords.role_of("operator", b"an-operators", HOME) is Role.OPERATOR
    guess(passwords, "operator", ELSEWHERE)
    assert passwords.role_of("operator", b"an-operators", HOME) is Role.OPERATOR
    with pytest.raises(TooManyGuesses):
        passwords.role_of("operator", b"an-operators", "10.0.0.8")


def test_guesses_from_where_a_person_was_right_are_slowed_too(passwords: PasswordCheck) -> None:
    assert passwords.role_of(BEARER, b"an-operators", HOME) is Role.OPERATOR
    guess(passwords, BEARER, HOME)
    with pytest.raises(TooManyGuesses):
        passwords.role_of(BEARER, b"an-operators", HOME)


def test_a_right_password_between_guesses_forgives_none(passwords: PasswordCheck) -> None:
    for number in range(FREE_GUESSES + 1):
        assert passwords.role_of(BEARER, b"guess %d" % number, ELSEWHERE) is None
        if number < FREE_GUESSES:
            passwords.role_of("viewer", PASSWORDS[Role.VIEWER].encode(), ELSEWHERE)
    with pytest.raises(TooManyGuesses):
        passwords.role_of(BEARER, b"an-admins", ELSEWHERE)


def test_a_program_with_an_old_password_repeats_it_and_guesses_nothing(passwords: PasswordCheck) -> None:
    for _ in range(100):
        assert passwords.role_of(BEARER, b"the password of last year", HOME) is None
    assert passwords.role_of(BEARER, b"an-admins", HOME) is Role.ADMIN
