"""Calls that are repeated, and those that are not for ever."""

from __future__ import annotations

import pytest

from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, CoordinatorFailed, CoordinatorUnreachable
from render_tasks.retry import FAILURES_AT_MOST, retry_while_unreachable


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("render_tasks.retry.FIRST_WAIT_S", 0.0001)
    monkeypatch.setattr("render_tasks.retry.LONGEST_WAIT_S", 0.0001)


class ScriptedCall:
    """Raises one error after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


SILENCE = CoordinatorUnreachable("deliver", "status 503")


def test_silence_is_waited_out_however_long_it_lasts() -> None:
    call = ScriptedCall(*[SILENCE] * 200)
    assert retry_while_unreachable(call, CancelToken()) == "answer"
    assert call.calls == 201


def test_a_coordinator_that_fails_over_the_call_itself_is_asked_a_few_times() -> None:
    call = ScriptedCall(*[CoordinatorFailed("deliver")] * 200)
    with pytest.raises(CoordinatorFailed, match="status 500"):
        retry_while_unreachable(call, CancelToken())
    assert call.calls == FAILURES_AT_MOST


def test_silence_between_two_failures_does_not_count_as_one() -> None:
    call = ScriptedCall(*[SILENCE, CoordinatorFailed("deliver")] * (FAILURES_AT_MOST - 1))
    assert retry_while_unreachable(call, CancelToken()) == "answer"


def test_a_cancel_ends_the_wait() -> None:
    cancel_token = CancelToken()
    cancel_token.cancel("cancelled")
    with pytest.raises(AttemptDropped, match="cancelled"):
        retry_while_unreachable(ScriptedCall(SILENCE), cancel_token)
