"""The waits of one session by themselves: which grow, how far, and what begins them anew."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from coordinator.upstream.session_waits import (
    LATER_WAIT_S,
    NO_JOB_CAP_S,
    NO_RENDERER_WAIT_S,
    RETRY_CAP_S,
    SessionWaits,
)
from sheepfold.backoff import JITTER
from tests.support.coordinator.session_harness import NoJitter

Wait = Callable[[SessionWaits], float]


def waits_of(no_job_wait_s: float = 900.0, rng: random.Random | None = None) -> SessionWaits:
    return SessionWaits(no_job_wait_s, 5.0, rng or NoJitter())


@pytest.mark.parametrize(
    ("wait", "first_s", "cap_s"),
    [
        (SessionWaits.after_no_job, 900, NO_JOB_CAP_S),
        (SessionWaits.after_silence, 5, RETRY_CAP_S),
        (SessionWaits.after_failed_sign_in, 5, RETRY_CAP_S),
        (lambda waits: waits.blocked.next(), 5, NO_JOB_CAP_S),
        (lambda waits: waits.unreadable.next(), 5, RETRY_CAP_S),
    ],
)
def test_a_wait_doubles_up_to_its_cap_and_begins_anew_after_a_reset(wait: Wait, first_s: float, cap_s: float) -> None:
    waits = waits_of()
    seconds = [wait(waits) for _ in range(12)]
    assert seconds == [min(first_s * 2**n, cap_s) for n in range(12)]
    waits.reset()
    assert wait(waits) == first_s


def test_each_reason_has_a_wait_of_its_own() -> None:
    waits = waits_of()
    for _ in range(3):
        waits.after_silence()
    assert (waits.after_no_job(), waits.after_failed_sign_in(), waits.blocked.next()) == (900, 5, 5)


def test_a_farm_that_begins_with_short_waits_for_jobs_keeps_them_short() -> None:
    waits = waits_of(1)
    assert [waits.after_no_job() for _ in range(7)] == [1, 2, 4, 8, 16, 16, 16]
    assert max(waits.blocked.next() for _ in range(9)) == 16


@pytest.mark.parametrize(
    "wait", [SessionWaits.after_no_job, SessionWaits.after_silence, SessionWaits.after_failed_sign_in]
)
def test_what_the_server_said_shortens_a_wait_and_lengthens_none(wait: Wait) -> None:
    waits = waits_of()
    waits.server_wait_s = 2
    assert [wait(waits) for _ in range(3)] == [2, 2, 2]
    longer = waits_of()
    longer.server_wait_s = 10_000
    assert wait(longer) == wait(waits_of())


def test_a_word_of_the_server_shortens_no_wait_for_a_renderer_or_for_maintenance() -> None:
    waits = waits_of()
    waits.server_wait_s = 2
    assert waits.after_no_renderer() == NO_RENDERER_WAIT_S
    assert waits.after_overload() == sum(LATER_WAIT_S) / 2


@pytest.mark.parametrize("told_s", [None, 60])
def test_farms_that_were_told_the_same_come_back_at_different_times(told_s: int | None) -> None:
    seconds: dict[str, set[float]] = {"no job": set(), "renderer": set(), "overload": set()}
    for seed in range(50):
        waits = waits_of(rng=random.Random(seed))
        waits.server_wait_s = told_s
        seconds["no job"].add(waits.after_no_job() / (told_s or 900))
        seconds["renderer"].add(waits.after_no_renderer() / NO_RENDERER_WAIT_S)
        seconds["overload"].add(waits.after_overload())
    for values, (low, high) in zip(seconds.values(), (JITTER, JITTER, LATER_WAIT_S), strict=True):
        assert len(values) == 50
        assert low <= min(values) < max(values) <= high
