"""How long a session waits before it asks again, and what cuts the wait short."""

from __future__ import annotations

import logging
import math

import pytest

from coordinator.upstream.errors import FatalRefusal
from coordinator.upstream.session_waits import JOINED_EVERY_S, NO_JOB_CAP_S
from sheepfold.protocol.messages import JobAnswer
from sheepfold.protocol.status import JobStatus, SignInStatus
from tests.support.coordinator.session_harness import FRAME, SILENCE, SessionHarness


@pytest.fixture
def stage() -> SessionHarness:
    return SessionHarness()


def no_job(wait_s: int | None) -> JobAnswer:
    return JobAnswer(status=JobStatus.NO_JOB, wait_s=wait_s)


def test_a_server_of_ours_says_how_soon_it_may_be_asked_again(stage: SessionHarness) -> None:
    stage.client.jobs = [no_job(2)]
    for _ in range(5):
        stage.ask()
        assert stage.wait == 2
        stage.now += 2


def test_a_longer_wish_than_our_own_wait_changes_nothing(stage: SessionHarness) -> None:
    stage.client.jobs = [no_job(3600)]
    stage.ask()
    assert stage.wait == 900


def test_a_server_that_says_nothing_of_it_is_asked_as_before(stage: SessionHarness) -> None:
    stage.client.jobs = [no_job(2), no_job(None)]
    stage.ask()
    stage.now += 2
    stage.ask()
    assert stage.wait > 900


def test_a_server_of_ours_that_is_down_is_found_again_as_fast(stage: SessionHarness) -> None:
    stage.client.jobs = [no_job(2), SILENCE, JobStatus.SESSION_DEAD, FRAME]
    stage.client.sign_ins = [SignInStatus.OK, SILENCE, SILENCE, SILENCE, SignInStatus.OK]
    stage.ask()
    for _ in range(12):
        assert stage.wait <= 2
        stage.now += max(stage.wait, 0)
        if stage.ask():
            return
    raise AssertionError("it was never asked again")


def test_short_waits_for_one_reason_are_one_line_of_the_log(
    stage: SessionHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stage.client.jobs = [no_job(2)]
    for _ in range(5):
        stage.ask()
        stage.now += 2
    assert [record.getMessage() for record in caplog.records if "asking again" in record.getMessage()] == [
        "farm:linux/64bit: the server has no job for us (status 200); asking again in 2 s"
    ]


def test_long_waits_are_told_each_time(stage: SessionHarness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stage.client.jobs = [JobStatus.NO_JOB]
    for _ in range(2):
        stage.ask()
        stage.now += stage.wait
    told = [record.getMessage() for record in caplog.records if "asking again" in record.getMessage()]
    assert [line.rpartition("in ")[2] for line in told] == ["15 min", "30 min"]


# Asking now


@pytest.mark.parametrize(
    "answer", [JobStatus.NO_JOB, JobStatus.NO_RENDERER, JobStatus.MAINTENANCE, JobStatus.OVERLOADED, 742, SILENCE]
)
def test_a_person_ends_every_wait(stage: SessionHarness, answer: object) -> None:
    stage.client.jobs = [answer, FRAME]
    stage.ask()
    assert stage.wait > 1
    assert stage.session.asks_in_s() == stage.wait
    assert stage.session.ask_now()
    assert stage.session.asks_in_s() == 0
    assert stage.ask() is not None


def test_a_person_ends_the_wait_for_a_sign_in_too(stage: SessionHarness) -> None:
    stage.client.sign_ins = [SILENCE, SignInStatus.OK]
    assert stage.ask() is None
    assert stage.wait > 1
    assert stage.session.ask_now()
    assert stage.ask() is not None


def test_a_disabled_session_is_not_asked_whoever_says_so(stage: SessionHarness) -> None:
    stage.client.jobs = [JobStatus.SESSION_DISABLED]
    stage.ask()
    assert not stage.session.ask_now()
    assert stage.session.asks_in_s() is None
    assert stage.session.waits_until() == math.inf


def test_nor_one_that_was_refused_for_good_or_logged_out(stage: SessionHarness) -> None:
    stage.session.log_out()
    assert not stage.session.ask_now()
    refused = SessionHarness()
    refused.client.jobs = [JobStatus.NO_RENDERING_RIGHT]
    with pytest.raises(FatalRefusal):
        refused.ask()
    assert not refused.session.ask_now()


# A PC joins


def test_a_pc_that_joins_ends_a_wait_for_jobs_once_a_minute(stage: SessionHarness) -> None:
    stage.client.jobs = [JobStatus.NO_JOB]
    stage.ask()
    stage.session.node_joined()
    assert stage.wait == 0
    stage.ask()
    stage.now += JOINED_EVERY_S - 1
    stage.session.node_joined()
    assert stage.wait > 0, "a server of other origin is not hammered"
    stage.now += 1
    stage.session.node_joined()
    assert stage.wait == 0


@pytest.mark.parametrize("answer", [JobStatus.MAINTENANCE, JobStatus.NO_RENDERER, SILENCE])
def test_a_pc_that_joins_changes_nothing_about_other_waits(stage: SessionHarness, answer: object) -> None:
    stage.client.jobs = [answer]
    stage.ask()
    before = stage.wait
    stage.session.node_joined()
    assert stage.wait == before


# Frames that nobody here renders


def test_a_server_that_has_only_blocked_frames_is_asked_more_and_more_slowly(stage: SessionHarness) -> None:
    waits = []
    for _ in range(12):
        assert stage.ask() is not None
        stage.session.frame_was_unwanted("the server offers what is blocked here: job 7")
        # Giving it back is the end of a frame.
        stage.session.job_may_be_there()
        waits.append(stage.wait)
        stage.now += stage.wait
    assert waits[:4] == [5, 10, 20, 40]
    assert waits[-1] == NO_JOB_CAP_S
    assert stage.session.notice == "the server offers what is blocked here: job 7"


def test_a_frame_that_is_wanted_starts_those_waits_anew(stage: SessionHarness) -> None:
    for _ in range(3):
        stage.ask()
        stage.session.frame_was_unwanted("blocked")
        stage.now += stage.wait
    stage.ask()
    stage.session.frame_was_wanted()
    stage.session.frame_was_unwanted("blocked")
    assert stage.wait == 5
