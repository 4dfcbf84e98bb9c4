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
def harness() -> SessionHarness:
    return SessionHarness()


def no_job(wait_s: int | None) -> JobAnswer:
    return JobAnswer(status=JobStatus.NO_JOB, wait_s=wait_s)


def test_a_server_of_ours_says_how_soon_it_may_be_asked_again(harness: SessionHarness) -> None:
    harness.client.jobs = [no_job(2)]
    for _ in range(5):
        harness.ask()
        assert harness.wait == 2
        harness.now += 2


def test_a_longer_wish_than_our_own_wait_changes_nothing(harness: SessionHarness) -> None:
    harness.client.jobs = [no_job(3600)]
    harness.ask()
    assert harness.wait == 900


def test_a_server_that_says_nothing_of_it_is_asked_as_before(harness: SessionHarness) -> None:
    harness.client.jobs = [no_job(2), no_job(None)]
    harness.ask()
    harness.now += 2
    harness.ask()
    assert harness.wait > 900


def test_a_server_of_ours_that_is_down_is_found_again_as_fast(harness: SessionHarness) -> None:
    harness.client.jobs = [no_job(2), SILENCE, JobStatus.SESSION_DEAD, FRAME]
    harness.client.sign_ins = [SignInStatus.OK, SILENCE, SILENCE, SILENCE, SignInStatus.OK]
    harness.ask()
    for _ in range(12):
        assert harness.wait <= 2
        harness.now += max(harness.wait, 0)
        if harness.ask():
            return
    raise AssertionError("it was never asked again")


def test_short_waits_for_one_reason_are_one_line_of_the_log(
    harness: SessionHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    harness.client.jobs = [no_job(2)]
    for _ in range(5):
        harness.ask()
        harness.now += 2
    assert [record.getMessage() for record in caplog.records if "asking again" in record.getMessage()] == [
        "farm:linux/64bit: the server has no job for us (status 200); asking again in 2 s"
    ]


def test_long_waits_are_told_each_time(harness: SessionHarness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    harness.client.jobs = [JobStatus.NO_JOB]
    for _ in range(2):
        harness.ask()
        harness.now += harness.wait
    lines = [record.getMessage() for record in caplog.records if "asking again" in record.getMessage()]
    assert [line.rpartition("in ")[2] for line in lines] == ["15 min", "30 min"]


# Asking now


@pytest.mark.parametrize(
    "answer", [JobStatus.NO_JOB, JobStatus.NO_RENDERER, JobStatus.MAINTENANCE, JobStatus.OVERLOADED, 742, SILENCE]
)
def test_a_person_ends_every_wait(harness: SessionHarness, answer: object) -> None:
    harness.client.jobs = [answer, FRAME]
    harness.ask()
    assert harness.wait > 1
    assert harness.session.asks_in_s() == harness.wait
    assert harness.session.ask_now()
    assert harness.session.asks_in_s() == 0
    assert harness.ask() is not None


def test_a_person_ends_the_wait_for_a_sign_in_too(harness: SessionHarness) -> None:
    harness.client.sign_ins = [SILENCE, SignInStatus.OK]
    assert harness.ask() is None
    assert harness.wait > 1
    assert harness.session.ask_now()
    assert harness.ask() is not None


def test_a_disabled_session_is_not_asked_whoever_says_so(harness: SessionHarness) -> None:
    harness.client.jobs = [JobStatus.SESSION_DISABLED]
    harness.ask()
    assert not harness.session.ask_now()
    assert harness.session.asks_in_s() is None
    assert harness.session.waits_until() == math.inf


def test_nor_one_that_was_refused_for_good_or_logged_out(harness: SessionHarness) -> None:
    harness.session.log_out()
    assert not harness.session.ask_now()
    refused = SessionHarness()
    refused.client.jobs = [JobStatus.NO_RENDERING_RIGHT]
    with pytest.raises(FatalRefusal):
        refused.ask()
    assert not refused.session.ask_now()


# A PC joins


def test_a_pc_that_joins_ends_a_wait_for_jobs_once_a_minute(harness: SessionHarness) -> None:
    harness.client.jobs = [JobStatus.NO_JOB]
    harness.ask()
    harness.session.node_joined()
    assert harness.wait == 0
    harness.ask()
    harness.now += JOINED_EVERY_S - 1
    harness.session.node_joined()
    assert harness.wait > 0, "a server of other origin is not hammered"
    harness.now += 1
    harness.session.node_joined()
    assert harness.wait == 0


@pytest.mark.parametrize("answer", [JobStatus.MAINTENANCE, JobStatus.NO_RENDERER, SILENCE])
def test_a_pc_that_joins_changes_nothing_about_other_waits(harness: SessionHarness, answer: object) -> None:
    harness.client.jobs = [answer]
    harness.ask()
    before = harness.wait
    harness.session.node_joined()
    assert harness.wait == before


# Frames that nobody here renders


def test_a_server_that_has_only_blocked_frames_is_asked_more_and_more_slowly(harness: SessionHarness) -> None:
    waits = []
    for _ in range(12):
        assert harness.ask() is not None
        harness.session.frame_was_unwanted("the server offers what is blocked here: job 7")
        # Giving it back is the end of a frame.
        harness.session.job_may_be_there()
        waits.append(harness.wait)
        harness.now += harness.wait
    assert waits[:4] == [5, 10, 20, 40]
    assert waits[-1] == NO_JOB_CAP_S
    assert harness.session.notice == "the server offers what is blocked here: job 7"


def test_a_frame_that_is_wanted_starts_those_waits_anew(harness: SessionHarness) -> None:
    for _ in range(3):
        harness.ask()
        harness.session.frame_was_unwanted("blocked")
        harness.now += harness.wait
    harness.ask()
    harness.session.frame_was_wanted()
    harness.session.frame_was_unwanted("blocked")
    assert harness.wait == 5
