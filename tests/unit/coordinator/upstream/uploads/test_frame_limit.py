"""A server that gives a session so many frames at a time, and a session that remembers how many."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from coordinator.upstream.client import ServerClient
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_waits import NO_JOB_WAIT_S
from coordinator.upstream.signing_in import DescribedMachine, SessionServices
from coordinator.upstream.uploads.frame_limit import FrameLimit
from sheepfold.protocol.messages import ComputeMethod, JobAnswer, JobRequest
from sheepfold.protocol.session_messages import Endpoints, SignInAnswer, SignInRequest
from sheepfold.protocol.status import JobStatus, SignInStatus
from tests.support.coordinator.session_harness import HARDWARE, IDENTITY, OFFER, NoJitter

ENDPOINTS = Endpoints(request_job="r", keepmealive="k", validate_job="v", download_archive="d")


class FakeServer:
    """Gives at most ``limit`` unvalidated frames, while it has ``frames``."""

    def __init__(self, limit: int = 3, frames: int = 10_000) -> None:
        self.limit, self.frames, self.unvalidated, self.questions = limit, frames, 0, 0
        self.endpoints: Endpoints | None = None
        self.public_key: str | None = None
        self.network_down = self.network_up = 0
        self.lock = threading.Lock()
        #: Side by side questions wait for each other here.
        self.together: threading.Barrier | None = None

    def sign_in(self, _request: SignInRequest) -> SignInAnswer:
        self.endpoints = ENDPOINTS
        return SignInAnswer(status=SignInStatus.OK, endpoints=ENDPOINTS)

    def request_job(self, _request: JobRequest) -> JobAnswer:
        with self.lock:
            self.questions += 1
            gives = self.unvalidated < self.limit and self.frames > 0
            self.unvalidated += gives
            self.frames -= gives
        if self.together is not None:
            self.together.wait()
        return JobAnswer(status=JobStatus.OK, offer=OFFER) if gives else JobAnswer(status=JobStatus.NO_JOB)

    def freeze(self) -> str:
        return ""


class UploadHarness:
    """A session, its limit, and the frames it holds."""

    def __init__(self, service: FakeServer) -> None:
        self.service, self.now, self.held = service, 1000.0, 0
        self.session = FarmSession(
            key="k",
            machine=DescribedMachine(hardware=HARDWARE),
            client=cast("ServerClient", service),
            identity=IDENTITY,
            services=SessionServices(clock=lambda: self.now, rng=NoJitter()),
        )
        self.limit = FrameLimit(self.session, lambda: self.held, lambda: self.now)
        self.lock = threading.Lock()

    def ask_once(self) -> bool:
        """As the session loops ask: a frame is entered before its question ends."""
        with self.limit.question() as may_ask:
            answer = self.session.request_job(ComputeMethod.CPU_ONLY, []) if may_ask else None
            if answer is None or answer.offer is None:
                return False
            with self.lock:
                self.held += 1
            return True

    def ask_all(self) -> int:
        """Questions until there is nothing more to ask; how many the server heard."""
        before = self.service.questions
        while self.ask_once():
            pass
        return self.service.questions - before

    def settle(self) -> None:
        self.service.unvalidated -= 1
        self.held -= 1
        self.session.job_may_be_there()


def test_a_settled_frame_leads_to_exactly_one_question() -> None:
    farm = UploadHarness(FakeServer(limit=3))
    assert farm.ask_all() == 4, "three frames and the lesson"
    assert farm.limit.free_places() == 0
    for _ in range(20):
        farm.settle()
        assert farm.ask_all() == 1
        assert farm.held == 3
        farm.now += 1
        assert farm.ask_all() == 0


def test_a_limit_is_found_out_anew_when_the_wait_for_jobs_is_over() -> None:
    farm = UploadHarness(FakeServer(limit=3))
    farm.ask_all()
    farm.service.limit = 5
    farm.now += NO_JOB_WAIT_S
    assert farm.ask_all() == 3, "two frames more, and the lesson"
    assert farm.held == 5
    farm.settle()
    assert farm.ask_all() == 1


def test_a_limit_that_is_still_there_costs_one_question_each_wait() -> None:
    farm = UploadHarness(FakeServer(limit=3))
    farm.ask_all()
    for _ in range(3):
        farm.now = max(farm.session.waits_until(), farm.now)
        assert farm.ask_all() == 1


def test_a_server_without_work_for_a_moment_teaches_no_lower_number() -> None:
    farm = UploadHarness(FakeServer(limit=6, frames=6))
    farm.ask_all()
    for _ in range(5):
        farm.settle()
        farm.ask_all()
    farm.service.frames = 100
    farm.settle()
    farm.ask_all()
    assert farm.held == 6


def test_a_session_without_frames_learns_nothing_from_no_job() -> None:
    farm = UploadHarness(FakeServer(frames=0))
    assert farm.ask_all() == 1
    assert farm.limit.free_places() > 1000


def test_a_session_that_took_frames_over_from_before_a_restart_counts_them() -> None:
    farm = UploadHarness(FakeServer(limit=3))
    farm.held = farm.service.unvalidated = 3
    assert farm.ask_all() == 1
    farm.settle()
    assert farm.ask_all() == 1


@pytest.mark.parametrize("_round", range(10))
def test_questions_side_by_side_learn_what_they_got_together(_round: int) -> None:
    farm = UploadHarness(FakeServer(limit=3))
    assert farm.ask_once()
    farm.service.together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda _: farm.ask_once(), range(4)))
    farm.service.together = None
    assert sum(got) == 2
    assert farm.limit.free_places() == 0, "three are held, whichever answer came first"
    farm.settle()
    assert farm.ask_all() == 1


def test_no_more_questions_are_under_way_than_there_are_places() -> None:
    farm = UploadHarness(FakeServer(limit=3))
    farm.ask_all()
    farm.settle()
    farm.service.together = threading.Barrier(1)
    with farm.limit.question() as first, farm.limit.question() as second:
        assert (first, second) == (True, False)
