"""The session machine against a client that answers from a script, with a clock that only the test moves."""

from __future__ import annotations

import itertools
import logging
import math
import random
import threading
from typing import Any, cast

import pytest

from coordinator.upstream.client import ServerClient
from coordinator.upstream.errors import FatalRefusal
from coordinator.upstream.session import FarmSession, SessionSettings
from coordinator.upstream.session_state import SessionState
from coordinator.upstream.session_waits import LATER_WAIT_S, NO_RENDERER_WAIT_S, RETRY_CAP_S
from coordinator.upstream.signing_in import DescribedMachine, SessionServices
from sheepfold.protocol.messages import ComputeMethod, JobAnswer, JobRequest
from sheepfold.protocol.status import JobStatus, SignInStatus
from tests.support.coordinator.session_harness import FRAME, HARDWARE, IDENTITY, SILENCE, NoJitter, SessionHarness


@pytest.fixture
def harness() -> SessionHarness:
    return SessionHarness()


# Signing in


def test_the_first_question_signs_in_and_brings_a_frame(harness: SessionHarness) -> None:
    assert harness.ask() == FRAME

    assert harness.session.state is SessionState.SIGNED_IN
    [request] = harness.client.signed_in_with
    assert (request.hardware, request.version) == (HARDWARE, "3.3.1762")
    assert harness.client.asked_with == [
        JobRequest(
            compute_method=ComputeMethod.CPU_ONLY,
            held_archives=("c" * 32,),
            cpu_cores=8,
            ram_max_kb=2**24,
            network_down=0,
            network_up=0,
        ),
    ]


@pytest.mark.parametrize("status", [100, 101, 102, 104])
def test_a_final_no_to_the_sign_in_is_fatal_for_every_thread_that_asks(harness: SessionHarness, status: int) -> None:
    harness.client.sign_ins = [SignInStatus(status)]

    for _ in range(3):
        with pytest.raises(FatalRefusal, match=f"signing in was refused: .*{status}") as refusal:
            harness.session.ensure_signed_in()
        assert "\n" not in str(refusal.value)
        assert "s3cret" not in str(refusal.value)
    assert len(harness.client.signed_in_with) == 1


@pytest.mark.parametrize("answer", [SILENCE, SignInStatus.WEB_SESSION_EXPIRED, 742])
def test_anything_else_is_tried_again_ever_more_slowly(harness: SessionHarness, answer: Any) -> None:
    harness.client.sign_ins = [answer]
    waits: list[float] = []
    for _ in range(10):
        assert not harness.session.ensure_signed_in()
        waits.append(harness.wait)
        assert not harness.session.ensure_signed_in()
        harness.now += harness.wait

    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert max(waits) == RETRY_CAP_S
    assert len(harness.client.signed_in_with) == 10

    harness.client.sign_ins = [SignInStatus.OK]
    assert harness.session.ensure_signed_in()


def test_a_question_while_signing_in_waits_asks_nothing(harness: SessionHarness) -> None:
    harness.client.sign_ins = [SILENCE]

    assert harness.ask() is None
    assert harness.ask() is None
    assert (len(harness.client.signed_in_with), len(harness.client.asked_with)) == (1, 0)


def test_many_threads_sign_in_once(harness: SessionHarness) -> None:
    everybody = threading.Barrier(8)
    inside, go_on = threading.Event(), threading.Event()

    def during_sign_in() -> None:
        inside.set()
        assert go_on.wait(10)

    harness.client.during_sign_in = during_sign_in
    results: list[bool] = []

    def beat() -> None:
        everybody.wait(10)
        results.append(harness.session.ensure_signed_in())

    threads = [threading.Thread(target=beat) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert inside.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert results == [True] * 8
    assert len(harness.client.signed_in_with) == 1


# A session that dies


def test_a_dead_session_is_replaced_and_the_question_asked_again_at_once(harness: SessionHarness) -> None:
    harness.ask()
    harness.client.jobs = [JobStatus.SESSION_DEAD, FRAME]

    assert harness.ask() == FRAME
    assert len(harness.client.signed_in_with) == 2


def test_a_server_that_always_says_dead_is_not_signed_in_to_in_a_circle(harness: SessionHarness) -> None:
    harness.ask()
    harness.client.jobs = [JobStatus.SESSION_DEAD]
    sign_ins: list[int] = []
    for _ in range(6):
        assert harness.ask() is None
        sign_ins.append(len(harness.client.signed_in_with))
        assert harness.wait >= 5
        harness.now += harness.wait

    # One at once, then never more than one per growing wait.
    assert sign_ins[0] == 2
    assert all(after - before <= 1 for before, after in itertools.pairwise(sign_ins))


def test_a_dead_session_found_by_an_upload_is_replaced_before_the_next_exchange(harness: SessionHarness) -> None:
    harness.ask()

    harness.session.session_died()

    assert harness.session.state is SessionState.SIGNED_OUT
    assert harness.session.ensure_signed_in()
    assert len(harness.client.signed_in_with) == 2


def test_a_late_claim_about_an_older_session_does_not_end_the_new_one(harness: SessionHarness) -> None:
    harness.ask()
    used, replaced = threading.Event(), threading.Event()

    def slow_upload() -> None:
        harness.session.ensure_signed_in()
        used.set()
        assert replaced.wait(10)
        harness.session.session_died()

    upload = threading.Thread(target=slow_upload)
    upload.start()
    assert used.wait(10)
    harness.session.session_died()
    assert harness.session.ensure_signed_in()
    replaced.set()
    upload.join(10)

    assert harness.session.state is SessionState.SIGNED_IN
    assert len(harness.client.signed_in_with) == 2


# What each answer to a question does


def test_no_job_waits_longer_each_time_and_a_frame_ends_that(harness: SessionHarness) -> None:
    harness.client.jobs = [JobStatus.NO_JOB]
    waits: list[float] = []
    for _ in range(3):
        assert harness.ask() is None
        waits.append(harness.wait)
        harness.now += harness.wait
    assert waits == [900, 1800, 1800]

    harness.client.jobs = [FRAME, JobStatus.NO_JOB]
    assert harness.ask() == FRAME
    harness.ask()
    assert harness.wait == 900


def test_questions_that_were_under_way_together_make_one_wait(harness: SessionHarness) -> None:
    harness.ask()
    assert harness.session.is_flowing, "more may be asked side by side"
    harness.client.jobs = [JobStatus.NO_JOB]
    together, waits = threading.Barrier(3, timeout=10), []
    request_job = harness.client.request_job

    def all_at_once(request: JobRequest) -> JobAnswer:
        together.wait()
        return request_job(request)

    harness.client.request_job = all_at_once  # type: ignore[method-assign]
    for _ in range(2):
        threads = [threading.Thread(target=harness.ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        waits.append(harness.wait)
        harness.now += harness.wait
    assert waits == [900, 1800]
    assert not harness.session.is_flowing


def test_a_lab_that_waits_a_second_first_never_waits_half_an_hour() -> None:
    harness = SessionHarness()
    session = FarmSession(
        key="k",
        machine=DescribedMachine(hardware=HARDWARE),
        client=cast("ServerClient", harness.client),
        identity=IDENTITY,
        settings=SessionSettings(no_job_wait_s=1),
        services=SessionServices(clock=lambda: harness.now, rng=NoJitter()),
    )
    harness.client.jobs = [JobStatus.NO_JOB]
    for _ in range(12):
        session.request_job(ComputeMethod.CPU_ONLY, [])
        harness.now = session.waits_until()
    session.request_job(ComputeMethod.CPU_ONLY, [])
    assert session.waits_until() - harness.now == 16


def test_nothing_is_asked_before_the_wait_is_over(harness: SessionHarness) -> None:
    harness.client.jobs = [JobStatus.NO_JOB]
    harness.ask()
    harness.now += 899
    harness.ask()
    assert len(harness.client.asked_with) == 1
    harness.now += 1
    harness.ask()
    assert len(harness.client.asked_with) == 2


def test_archives_to_delete_come_through_without_a_frame(harness: SessionHarness) -> None:
    answer = JobAnswer(status=JobStatus.NO_JOB, delete_archives=("d" * 32,))
    harness.client.jobs = [answer]

    assert harness.ask() == answer
    assert harness.wait == 900


def test_a_frame_that_ends_ends_the_wait_for_jobs(harness: SessionHarness) -> None:
    harness.client.jobs = [JobStatus.NO_JOB]
    harness.ask()

    harness.session.job_may_be_there()

    assert harness.wait == 0
    harness.ask()
    assert harness.wait == 900


@pytest.mark.parametrize("answer", [JobStatus.MAINTENANCE, JobStatus.NO_RENDERER, SILENCE, 742])
def test_a_frame_that_ends_ends_no_other_wait(harness: SessionHarness, answer: Any) -> None:
    harness.client.jobs = [answer]
    harness.ask()
    before = harness.wait

    harness.session.job_may_be_there()

    assert harness.wait == before


@pytest.mark.parametrize("status", [JobStatus.MAINTENANCE, JobStatus.OVERLOADED])
def test_maintenance_and_overload_wait_ten_to_thirty_minutes_in_the_same_session(status: JobStatus) -> None:
    for seed in range(50):
        harness = SessionHarness(rng=random.Random(seed))
        harness.client.jobs = [status]
        harness.ask()
        assert LATER_WAIT_S[0] <= harness.wait <= LATER_WAIT_S[1]
        assert harness.session.state is SessionState.SIGNED_IN


def test_a_platform_without_renderer_waits_long(harness: SessionHarness) -> None:
    harness.client.jobs = [JobStatus.NO_RENDERER]
    harness.ask()
    assert harness.wait == NO_RENDERER_WAIT_S


@pytest.mark.parametrize("answer", [SILENCE, 742])
def test_silence_and_unknown_errors_wait_ever_longer_and_keep_the_session(harness: SessionHarness, answer: Any) -> None:
    harness.client.jobs = [answer]
    waits: list[float] = []
    for _ in range(9):
        assert harness.ask() is None
        waits.append(harness.wait)
        harness.now += harness.wait

    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert harness.session.state is SessionState.SIGNED_IN
    assert len(harness.client.signed_in_with) == 1


def test_an_account_without_rendering_right_is_fatal_but_may_still_upload(harness: SessionHarness) -> None:
    harness.client.jobs = [JobStatus.NO_RENDERING_RIGHT]

    for _ in range(2):
        with pytest.raises(FatalRefusal, match="no right to render"):
            harness.ask()
    assert len(harness.client.asked_with) == 1
    assert harness.session.ensure_signed_in()


def test_a_disabled_session_asks_no_more_says_so_once_and_may_finish_its_uploads(
    harness: SessionHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.client.jobs = [JobStatus.SESSION_DISABLED]

    for _ in range(3):
        assert harness.ask() is None
        harness.now += 10_000

    assert harness.session.state is SessionState.DISABLED
    assert harness.session.waits_until() == math.inf
    assert len(harness.client.asked_with) == 1
    assert [record.levelno for record in caplog.records if record.levelno >= logging.CRITICAL] == [logging.CRITICAL]
    assert harness.session.ensure_signed_in()
    assert harness.client.logged_out == 0


def test_a_disabled_session_is_never_signed_in_again(harness: SessionHarness) -> None:
    harness.client.jobs = [JobStatus.SESSION_DISABLED]
    harness.ask()

    harness.session.session_died()
    assert not harness.session.ensure_signed_in()
    harness.session.log_out()
    assert not harness.session.ensure_signed_in()

    assert harness.session.state is SessionState.DISABLED
    assert (len(harness.client.signed_in_with), harness.client.logged_out) == (1, 1)


# The end, and what is kept


def test_logging_out_ends_the_session_and_what_was_remembered_of_it(harness: SessionHarness) -> None:
    harness.ask()
    harness.client.log_out_fails = True

    harness.session.log_out()

    assert harness.session.state is SessionState.SIGNED_OUT
    assert harness.client.logged_out == 1
    assert harness.kept[-1] == ""


def test_a_session_is_remembered_when_it_begins_and_when_its_cookies_change(harness: SessionHarness) -> None:
    harness.ask()
    harness.ask()
    assert len(harness.kept) == 1
    harness.client.cookie = "two"
    harness.ask()
    assert len(harness.kept) == 2
    assert "cookie two" in harness.kept[-1]
    assert "s3cret" not in "".join(harness.kept)


def test_a_restart_goes_on_with_the_session_there_was(harness: SessionHarness) -> None:
    harness.ask()

    later = SessionHarness(remembered=harness.kept[-1])

    assert later.client.thawed == ["cookie one"]
    assert later.session.state is SessionState.SIGNED_IN
    assert later.ask() == FRAME
    assert later.client.signed_in_with == []


def test_a_restart_with_a_session_that_died_meanwhile_signs_in_at_once(harness: SessionHarness) -> None:
    harness.ask()
    later = SessionHarness(remembered=harness.kept[-1])
    later.client.jobs = [JobStatus.SESSION_DEAD, FRAME]

    assert later.ask() == FRAME
    assert len(later.client.signed_in_with) == 1


@pytest.mark.parametrize(
    "remembered",
    [None, "", "garbage", "[]", "{}", "3", '{"login": "somebody else", "client": "x"}', '{"login": "studio"}'],
)
def test_a_remembered_session_that_is_not_ours_is_left(remembered: str | None) -> None:
    harness = SessionHarness(remembered=remembered)

    assert harness.session.state is SessionState.SIGNED_OUT
    assert harness.client.thawed == []
