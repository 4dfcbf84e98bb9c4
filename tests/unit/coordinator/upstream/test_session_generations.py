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
def harness() -> SessionHarness:
    return SessionHarness()


def passwords(harness: SessionHarness) -> list[str]:
    return [request.credentials.password for request in harness.client.signed_in_with]


# The public key


def test_a_public_key_signs_in_the_next_time(harness: SessionHarness) -> None:
    harness.client.gives_key = "kkk"
    harness.ask()
    harness.session.session_died()
    assert harness.session.ensure_signed_in()
    assert passwords(harness) == ["s3cret", "kkk"]


def test_a_key_the_server_no_longer_takes_is_replaced_by_the_password_once(harness: SessionHarness) -> None:
    harness.client.public_key = "old"
    harness.client.sign_ins = [SignInStatus.AUTHENTICATION_FAILED, SignInStatus.OK]
    assert harness.session.ensure_signed_in()
    assert passwords(harness) == ["old", "s3cret"]
    assert harness.client.public_key is None


def test_where_neither_key_nor_password_is_taken_it_is_fatal_and_nothing_more_is_tried(harness: SessionHarness) -> None:
    harness.client.public_key = "old"
    harness.client.sign_ins = [SignInStatus.AUTHENTICATION_FAILED]
    for _ in range(3):
        with pytest.raises(FatalRefusal, match="login and password"):
            harness.session.ensure_signed_in()
    assert passwords(harness) == ["old", "s3cret"]


def test_any_other_answer_to_a_key_is_no_reason_to_send_the_password(harness: SessionHarness) -> None:
    harness.client.public_key = "kkk"
    harness.client.sign_ins = [SILENCE]
    assert not harness.session.ensure_signed_in()
    harness.client.sign_ins = [742]
    harness.now += harness.wait
    assert not harness.session.ensure_signed_in()
    assert passwords(harness) == ["kkk", "kkk"]


# What the sign-in says


def test_a_server_that_wants_a_newer_client_is_told_with_the_dialect_to_try_next() -> None:
    harness = SessionHarness(identity=replace(IDENTITY, dialect=dialect_of(2017)))
    harness.client.sign_ins = [SignInStatus.CLIENT_TOO_OLD]
    with pytest.raises(FatalRefusal, match=r"too old \(status 101\); we spoke 2017, try SHEEPFOLD_DIALECT=2020") as no:
        harness.session.ensure_signed_in()
    assert "\n" not in str(no.value)


def test_after_the_newest_dialect_only_a_newer_version_is_left_to_try() -> None:
    harness = SessionHarness(identity=replace(IDENTITY, dialect=dialect_of(2024)))
    harness.client.sign_ins = [SignInStatus.CLIENT_TOO_OLD]
    with pytest.raises(FatalRefusal, match=r"SHEEPFOLD_CLIENT_VERSION .* 7\.24086\.0"):
        harness.session.ensure_signed_in()


def test_the_sign_in_names_what_the_operator_and_the_dialect_give_it() -> None:
    identity = ClientIdentity(
        credentials=Credentials(login="studio", password="s3cret"),
        dialect=dialect_of(2022),
        extras="team",
        hardware_id="0" * 32,
    )
    harness = SessionHarness(identity=identity)
    harness.session.describe(DescribedMachine(hardware=HARDWARE, hostname="pc-07"))
    harness.ask()
    [request] = harness.client.signed_in_with
    assert (request.version, request.extras) == ("6.22306.0", "team")
    assert (request.hostname, request.hardware_id) == ("pc-07", "0" * 32)


def test_a_server_of_a_generation_nobody_speaks_is_an_answer_and_ends_the_farm(harness: SessionHarness) -> None:
    endpoints = Endpoints(request_job="r", keepmealive="")
    harness.client.sign_ins = [UnknownGeneration(endpoints, ("stream-job", "ping"))]
    for _ in range(3):
        with pytest.raises(FatalRefusal, match=r"has no keepmealive.*; it has stream-job, ping instead") as no:
            harness.session.ensure_signed_in()
        assert "\n" not in str(no.value)
    assert len(harness.client.signed_in_with) == 1


def test_a_speed_test_is_begun_with_the_session_and_only_where_the_server_asks(harness: SessionHarness) -> None:
    harness.ask()
    assert harness.measured == []
    harness.client.speed_test_targets = ("http://a/",)
    harness.session.session_died()
    harness.ask()
    assert harness.measured == [("http://a/",)]


def test_a_question_tells_the_speed_that_was_measured(harness: SessionHarness) -> None:
    harness.client.network_down, harness.client.network_up = 7_000_000, 300_000
    harness.ask()
    [question] = harness.client.asked_with
    assert (question.network_down, question.network_up) == (7_000_000, 300_000)


# Offers that cannot be read


def test_an_offer_nobody_can_follow_is_given_back_and_the_next_question_waits_ever_longer(
    harness: SessionHarness,
) -> None:
    harness.client.jobs = [ANSWER]
    waits: list[float] = []
    for _ in range(4):
        assert harness.ask() is None
        assert harness.ask() is None
        waits.append(harness.wait)
        harness.now += harness.wait
    assert waits == [5, 10, 20, 40]
    assert harness.returned == [UNREADABLE] * 4
    assert len(harness.client.signed_in_with) == 1, "the session is in order"


def test_a_frame_that_can_be_followed_ends_those_waits(harness: SessionHarness) -> None:
    harness.client.jobs = [ANSWER, ANSWER, FRAME, ANSWER]
    for _ in range(3):
        harness.ask()
        harness.now += max(0, harness.wait)
    harness.ask()
    assert harness.wait == 5


def test_a_frame_that_ends_does_not_end_the_wait_after_an_offer_nobody_can_follow(harness: SessionHarness) -> None:
    harness.client.jobs = [ANSWER]
    harness.ask()
    harness.session.job_may_be_there()
    assert harness.wait == 5


# Statuses of later generations


@pytest.mark.parametrize("status", [JobStatus.INTERNAL_ERROR])
def test_a_server_that_met_an_error_of_its_own_is_asked_again_later(harness: SessionHarness, status: Any) -> None:
    harness.client.jobs = [status]
    assert harness.ask() is None
    assert (harness.wait, harness.session.state) == (5, SessionState.SIGNED_IN)


def test_a_session_whose_pc_cannot_denoise_asks_no_more_and_the_operator_is_told(
    harness: SessionHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.client.jobs = [JobStatus.CANNOT_DENOISE]
    for _ in range(3):
        assert harness.ask() is None
        harness.now += 10_000
    assert harness.session.state is SessionState.DISABLED
    assert len(harness.client.asked_with) == 1
    [message] = [record.getMessage() for record in caplog.records if record.levelname == "CRITICAL"]
    assert "cannot denoise" in message
    assert "breaks frames" not in message


# Which PC a session describes


def test_a_session_describes_the_pc_it_was_signed_in_with(harness: SessionHarness) -> None:
    harness.session.describe(DescribedMachine(hardware=HARDWARE, node_id="n1"))
    harness.ask()
    assert harness.session.described_node == "n1"
    harness.session.describe(STRONGER)
    assert harness.session.described_node == "", "the server does not know of it yet"


def test_a_session_that_has_had_no_frame_begins_anew_for_a_stronger_pc(harness: SessionHarness) -> None:
    assert harness.session.ensure_signed_in()
    harness.session.describe(STRONGER)
    assert harness.ask() == FRAME
    assert harness.client.logged_out == 1, "no session is left behind at the server"
    assert [request.hardware.cpu_cores for request in harness.client.signed_in_with] == [8, 64]
    assert harness.session.described_node == "n2"


def test_a_session_that_holds_frames_goes_on(harness: SessionHarness) -> None:
    harness.ask()
    harness.session.describe(STRONGER)
    harness.ask()
    assert (harness.client.logged_out, len(harness.client.signed_in_with)) == (0, 1)


def test_a_session_from_before_a_restart_is_taken_to_describe_its_strongest_pc() -> None:
    kept = json.dumps({"login": "studio", "client": "frozen"})
    harness = SessionHarness(remembered=kept)
    harness.session.describe(STRONGER)
    assert harness.ask() == FRAME
    assert (harness.session.described_node, harness.client.signed_in_with) == ("n2", [])
    assert harness.client.endpoints == ENDPOINTS
