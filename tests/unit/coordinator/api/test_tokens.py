"""Guessing the farm token from one address, and from the address of a PC of the farm."""

from __future__ import annotations

import pytest

from coordinator.api.tokens import TokenCheck
from sheepfold.serving.errors import TooManyGuesses
from sheepfold.serving.guesses import FREE_GUESSES

TOKEN = "f4" * 24


def test_an_address_that_guesses_is_slowed_down_and_others_are_not() -> None:
    tokens = TokenCheck(TOKEN)
    for number in range(FREE_GUESSES + 1):
        assert not tokens.is_right(f"guess-{number}", "10.0.0.66")
    with pytest.raises(TooManyGuesses):
        tokens.is_right(TOKEN, "10.0.0.66")
    assert tokens.is_right(TOKEN, "10.0.0.7")


def test_an_address_that_has_shown_the_token_is_never_kept_waiting() -> None:
    tokens = TokenCheck(TOKEN)
    assert tokens.is_right(TOKEN, "10.0.0.7")
    for number in range(100):
        assert not tokens.is_right(f"guess-{number}", "10.0.0.7")
    assert tokens.is_right(TOKEN, "10.0.0.7")


@pytest.mark.parametrize("given", ["", "\xe9", "\udce9", TOKEN + "x", TOKEN[:-1]])
def test_what_is_not_the_token_is_wrong(given: str) -> None:
    assert not TokenCheck(TOKEN).is_right(given, "10.0.0.7")
