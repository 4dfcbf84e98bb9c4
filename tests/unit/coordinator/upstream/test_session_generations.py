"""What later generations of servers say to a session: keys, chunks of words nobody knows, other statuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from coordinator.upstream.client_identity import ClientIdentity
from coordinator.upstream.errors import FatalRefusal, UnknownGeneration
from coordinator.upstream.session_state import SessionState
from coordinator.upstream.signing_in import DescribedMachine
from sheepfold.protocol.dialects import dialect_of
from sheepfold.protocol.messages import JobAnswer, UnreadableOffer
from sheepfold.protocol.session_messages import Credentials, Endpoints
from sheepfold.protocol.status import JobStatus, SignInStatus
from tests.support.coordinator.session_harness import ENDPOINTS, FRAME, HARDWARE, IDENTITY, SILENCE, SessionHarness

UNREADABLE = UnreadableOffer(job="7", frame="0012", extras="x", reason="<job> has no <renderer>")
ANSWER = JobAnswer(status=JobStatus.OK, unreadable=UNREADABLE)

STRONGER = DescribedMachine(hardware=replace(HARDWARE, cpu_cores=64), node_id="n2")


@pytest.fixture
def stage() -> SessionHarness:
    return SessionHarness()


def passwords(stage: SessionHarness) -> list[str]:
    return [request.credentials.password for request in stage.client.signed_in_with]


# The public key


def test_a_public_key_signs_in_the_next_time(stage: SessionHarness) -> None:
    stage.client.gives_key = "kkk"
    stage.ask()
    stage.session.session_died()
    assert stage.session.ensure_signed_in()
    assert passwords(stage) == ["s3cret", "kkk"]


def test_a_key_the_server_no_longer_takes_is_replaced_by_the_password_once(stage: SessionHarness) -> None:
    stage.client.public_key = "old"
    stage.client.sign_ins = [SignInStatus.AUTHENTICATION_FAILED, SignInStatus.OK]
    assert stage.session.ensure_signed_in()
    assert passwords(stage) == ["old", "s3cret"]
    assert stage.client.public_key is None


def test_where_neither_key_nor_password_is_taken_it_is_fatal_and_nothing_more_is_tried(stage: SessionHarness) -> None:
    stage.client.public_key = "old"
    stage.client.sign_ins = [SignInStatus.AUTHENTICATION_FAILED]
    for _ in range(3):
        with pytest.raises(FatalRefusal, match="login and password"):
            stage.session.ensure_signed_in()
    assert passwords(stage) == ["old", "s3cret"]


def test_any_other_answer_to_a_key_is_no_reason_to_send_the_password(stage: SessionHarness) -> None:
    stage.client.public_key = "kkk"
    stage.client.sign_ins = [SILENCE]
    assert not stage.session.ensure_signed_in()
    stage.client.sign_ins = [742]
    stage.now += stage.wait
    assert not stage.session.ensure_signed_in()
    assert passwords(stage) == ["kkk", "kkk"]


# What the sign-in says


def test_a_server_that_wants_a_newer_client_is_told_with_the_dialect_to_try_next() -> None:
    stage = SessionHarness(identity=replace(IDENTITY, dialect=dialect_of(2017)))
    stage.client.sign_ins = [SignInStatus.CLIENT_TOO_OLD]
    with pytest.raises(FatalRefusal, match=r"too old \(status 101\); we spoke 2017, try SHEEPFOLD_DIALECT=2020") as no:
        stage.session.ensure_signed_in()
    assert "\n" not in str(no.value)


def test_after_the_newest_dialect_only_a_newer_version_is_left_to_try() -> None:
    stage = SessionHarness(identity=replace(IDENTITY, dialect=dialect_of(2024)))
    stage.client.sign_ins = [SignInStatus.CLIENT_TOO_OLD]
    with pytest.raises(FatalRefusal, match=r"SHEEPFOLD_CLIENT_VERSION .* 7\.24086\.0"):
        stage.session.ensure_signed_in()


def test_the_sign_in_names_what_the_operator_and_the_dialect_give_it() -> None:
    identity = ClientIdentity(
        credentials=Credentials(login="studio", password="s3cret"),
        dialect=dialect_of(2022),
        extras="team",
        hardware_id="0" * 32,
    )
    stage = SessionHarness(identity=identity)
    stage.session.describe(DescribedMachine(hardware=HARDWARE, hostname="pc-07"))
    stage.ask()
    [request] = stage.client.signed_in_with
    assert (request.version, request.extras) == ("6.22306.0", "team")
    assert (request.hostname, request.hardware_id) == ("pc-07", "0" * 32)


def test_a_server_of_a_generation_nobody_speaks_is_an_answer_and_ends_the_farm(stage: SessionHarness) -> None:
    endpoints = Endpoints(request_job="r", keepmealive="")
    stage.client.sign_ins = [UnknownGeneration(endpoints, ("stream-job", "ping"))]
    for _ in range(3):
        with pytest.raises(FatalRefusal, match=r"has no keepmealive.*; it has stream-job, ping instead") as no:
            stage.session.ensure_signed_in()
        assert "\n" not in str(no.value)
    assert len(stage.client.signed_in_with) == 1


def test_a_speed_test_is_begun_with_the_session_and_only_where_the_server_asks(stage: SessionHarness) -> None:
    stage.ask()
    assert stage.measured == []
    stage.client.speed_test_targets = ("http://a/",)
    stage.session.session_died()
    stage.ask()
    assert stage.measured == [("http://a/",)]


def test_a_question_tells_the_speed_that_was_measured(stage: SessionHarness) -> None:
    stage.client.network_down, stage.client.network_up = 7_000_000, 300_000
    stage.ask()
    [question] = stage.client.asked_with
    assert (question.network_down, question.network_up) == (7_000_000, 300_000)


# Offers that cannot be read


def test_an_offer_nobody_can_follow_is_given_back_and_the_next_question_waits_ever_longer(
    stage: SessionHarness,
) -> None:
    stage.client.jobs = [ANSWER]
    waits: list[float] = []
    for _ in range(4):
        assert stage.ask() is None
        assert stage.ask() is None
        waits.append(stage.wait)
        stage.now += stage.wait
    assert waits == [5, 10, 20, 40]
    assert stage.returned == [UNREADABLE] * 4
    assert len(stage.client.signed_in_with) == 1, "the session is in order"


def test_a_frame_that_can_be_followed_ends_those_waits(stage: SessionHarness) -> None:
    stage.client.jobs = [ANSWER, ANSWER, FRAME, ANSWER]
    for _ in range(3):
        stage.ask()
        stage.now += max(0, stage.wait)
    stage.ask()
    assert stage.wait == 5


def test_a_frame_that_ends_does_not_end_the_wait_after_an_offer_nobody_can_follow(stage: SessionHarness) -> None:
    stage.client.jobs = [ANSWER]
    stage.ask()
    stage.session.job_may_be_there()
    assert stage.wait == 5


# Statuses of later generations


@pytest.mark.parametrize("status", [JobStatus.INTERNAL_ERROR])
def test_a_server_that_met_an_error_of_its_own_is_asked_again_later(stage: SessionHarness, status: Any) -> None:
    stage.client.jobs = [status]
    assert stage.ask() is None
    assert (stage.wait, stage.session.state) == (5, SessionState.SIGNED_IN)


def test_a_session_whose_pc_cannot_denoise_asks_no_more_and_the_operator_is_told(
    stage: SessionHarness, caplog: pytest.LogCaptureFixture
) -> None:
    stage.client.jobs = [JobStatus.CANNOT_DENOISE]
    for _ in range(3):
        assert stage.ask() is None
        stage.now += 10_000
    assert stage.session.state is SessionState.DISABLED
    assert len(stage.client.asked_with) == 1
    [told] = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert "cannot denoise" in told
    assert "breaks frames" not in told


# Which PC a session describes


def test_a_session_describes_the_pc_it_was_signed_in_with(stage: SessionHarness) -> None:
    stage.session.describe(DescribedMachine(hardware=HARDWARE, node_id="n1"))
    stage.ask()
    assert stage.session.described_node == "n1"
    stage.session.describe(STRONGER)
    assert stage.session.described_node == "", "the server does not know of it yet"


def test_a_session_that_has_had_no_frame_begins_anew_for_a_stronger_pc(stage: SessionHarness) -> None:
    assert stage.session.ensure_signed_in()
    stage.session.describe(STRONGER)
    assert stage.ask() == FRAME
    assert stage.client.logged_out == 1, "no session is left behind at the server"
    assert [request.hardware.cpu_cores for request in stage.client.signed_in_with] == [8, 64]
    assert stage.session.described_node == "n2"


def test_a_session_that_holds_frames_goes_on(stage: SessionHarness) -> None:
    stage.ask()
    stage.session.describe(STRONGER)
    stage.ask()
    assert (stage.client.logged_out, len(stage.client.signed_in_with)) == (0, 1)


def test_a_session_from_before_a_restart_is_taken_to_describe_its_strongest_pc() -> None:
    kept = json.dumps({"login": "studio", "client": "frozen"})
    stage = SessionHarness(remembered=kept)
    stage.session.describe(STRONGER)
    assert stage.ask() == FRAME
    assert (stage.session.described_node, stage.client.signed_in_with) == ("n2", [])
    assert stage.client.endpoints == ENDPOINTS
