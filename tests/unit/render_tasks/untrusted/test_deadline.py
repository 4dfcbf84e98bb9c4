"""A step that hangs holds nobody up."""

from __future__ import annotations

import threading

import pytest

from render_tasks.cancellation import CancelToken
from render_tasks.errors import AttemptDropped, AttemptFailed
from render_tasks.untrusted.deadline import within
from sheepfold.contract.api_messages import FailureKind


def test_a_step_gives_what_it_gives_and_raises_what_it_raises() -> None:
    assert within(10, lambda: 7, CancelToken(), doing="counting") == 7
    with pytest.raises(KeyError):
        within(10, lambda: {}[1], CancelToken(), doing="counting")


def test_a_step_that_hangs_fails_the_attempt_at_its_deadline() -> None:
    hang = threading.Event()
    with pytest.raises(AttemptFailed) as failed:
        within(0.05, lambda: hang.wait(60), CancelToken(), doing="taking the picture")
    hang.set()
    assert failed.value.report.kind is FailureKind.NO_OUTPUT
    assert "taking the picture took longer than 0.05 seconds" in failed.value.report.reason


def test_a_cancel_ends_the_wait_for_a_step_that_hangs() -> None:
    hang, has_begun, cancel_token = threading.Event(), threading.Event(), CancelToken()

    def step() -> None:
        has_begun.set()
        hang.wait(60)

    canceller = threading.Thread(target=lambda: (has_begun.wait(10), cancel_token.cancel("cancelled")))
    canceller.start()
    with pytest.raises(AttemptDropped, match="cancelled"):
        within(60, step, cancel_token, doing="taking the picture")
    hang.set()
    canceller.join()
