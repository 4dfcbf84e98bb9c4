"""The sign-in of one session by itself: who may sign in when, and what is kept of a session for the next start."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from typing import Any, cast

import pytest

from coordinator.upstream.client import ServerClient
from coordinator.upstream.errors import FatalRefusal
from coordinator.upstream.session_state import SessionState, SessionStatus
from coordinator.upstream.session_waits import SessionWaits
from coordinator.upstream.signing_in import DescribedMachine, SessionServices, SignIn
from sheepfold.protocol.status import SignInStatus
from tests.support.coordinator.session_harness import HARDWARE, IDENTITY, SILENCE, NoJitter, ScriptedClient

STRONGER = replace(HARDWARE, cpu_cores=64)
REMEMBERED = json.dumps({"login": IDENTITY.credentials.login, "client": "cookie one"})


class SignInHarness:
    """A sign-in, its scripted client, its clock, its status, and what it wrote down."""

    def __init__(self, remembered: str | None = None) -> None:
        self.client, self.status, self.now = ScriptedClient(), SessionStatus(), 1000.0
        self.kept: list[str] = []
        self.measured: list[tuple[str, ...]] = []
        services = SessionServices(
            remember=self.kept.append,
            recall=lambda: remembered,
            measure=lambda _client, targets: self.measured.append(targets),
            clock=lambda: self.now,
        )
        machine = DescribedMachine(hardware=HARDWARE, hostname="pc", node_id="n1")
        client = cast("ServerClient", self.client)
        waits = SessionWaits(900, 5, NoJitter())
        self.sign_in = SignIn("farm", machine, client, IDENTITY, services, waits, self.status)

    @property
    def sign_ins(self) -> int:
        return len(self.client.signed_in_with)


@pytest.fixture
def harness() -> SignInHarness:
    return SignInHarness()


@pytest.fixture
def signed_in(harness: SignInHarness) -> SignInHarness:
    assert harness.sign_in.ensure_signed_in()
    return harness


def test_it_signs_in_once_and_the_session_is_there_from_then_on(signed_in: SignInHarness) -> None:
    assert signed_in.status.state is SessionState.SIGNED_IN
    assert signed_in.sign_in.ensure_signed_in()
    assert (signed_in.sign_ins, signed_in.status.notice) == (1, "signed in")


@pytest.mark.parametrize("answer", [SILENCE, 742])
def test_a_sign_in_that_led_to_nothing_is_tried_again_after_ever_longer_waits(
    harness: SignInHarness, answer: Any
) -> None:
    harness.client.sign_ins = [answer]
    for tries, wait_s in enumerate((5, 10, 20), start=1):
        assert not harness.sign_in.ensure_signed_in()
        harness.now += wait_s - 0.1
        assert not harness.sign_in.ensure_signed_in()
        assert harness.sign_ins == tries, "not before the wait is over"
        harness.now += 0.1
    assert harness.status.state is SessionState.SIGNED_OUT


def test_a_final_no_is_raised_now_and_later_without_another_request(harness: SignInHarness) -> None:
    harness.client.sign_ins = [SignInStatus.AUTHENTICATION_FAILED]
    for _ in range(2):
        with pytest.raises(FatalRefusal, match="signing in was refused"):
            harness.sign_in.ensure_signed_in()
    assert harness.sign_ins == 1


def test_a_session_that_dies_without_a_sign_of_life_is_replaced_ever_more_slowly(signed_in: SignInHarness) -> None:
    for tries, wait_s in enumerate((5, 10), start=1):
        signed_in.sign_in.session_died()
        assert not signed_in.sign_in.ensure_signed_in()
        signed_in.now += wait_s
        assert signed_in.sign_in.ensure_signed_in()
        assert signed_in.sign_ins == tries + 1


def test_a_session_that_lived_is_replaced_at_once(signed_in: SignInHarness) -> None:
    signed_in.sign_in.is_alive()
    signed_in.sign_in.session_died()
    assert signed_in.status.state is SessionState.SIGNED_OUT
    assert signed_in.sign_in.ensure_signed_in()
    assert signed_in.sign_ins == 2


def test_a_sign_of_life_begins_the_waits_anew(signed_in: SignInHarness) -> None:
    signed_in.sign_in.session_died()
    signed_in.now += 5
    assert signed_in.sign_in.ensure_signed_in()
    signed_in.sign_in.is_alive()
    for _ in range(2):
        signed_in.sign_in.session_died()
        assert signed_in.sign_in.ensure_signed_in(), "at once, and then after the first wait"
        signed_in.now += 5


def test_threads_that_come_while_one_signs_in_wait_and_go_on_with_what_it_got(harness: SignInHarness) -> None:
    inside, go, got = threading.Event(), threading.Event(), []

    def during_sign_in() -> None:
        inside.set()
        assert go.wait(5)

    harness.client.during_sign_in = during_sign_in
    threads = [threading.Thread(target=lambda: got.append(harness.sign_in.ensure_signed_in())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert inside.wait(5)
    go.set()
    for thread in threads:
        thread.join(5)
    assert (got, harness.sign_ins) == ([True] * 4, 1)


def test_a_thread_can_only_say_of_its_own_session_that_it_died(signed_in: SignInHarness) -> None:
    used, replaced = threading.Event(), threading.Event()

    def late() -> None:
        signed_in.sign_in.ensure_signed_in()
        used.set()
        assert replaced.wait(5)
        signed_in.sign_in.session_died()

    thread = threading.Thread(target=late)
    thread.start()
    assert used.wait(5)
    signed_in.sign_in.is_alive()
    signed_in.sign_in.session_died()
    assert signed_in.sign_in.ensure_signed_in()
    replaced.set()
    thread.join(5)
    assert signed_in.status.state is SessionState.SIGNED_IN, "that was the session before"


def test_a_disabled_session_is_used_until_the_server_takes_nothing_more_and_never_replaced(
    signed_in: SignInHarness,
) -> None:
    signed_in.status.state = SessionState.DISABLED
    assert signed_in.sign_in.ensure_signed_in(), "for uploads"
    assert not signed_in.sign_in.is_over
    signed_in.sign_in.session_died()
    assert signed_in.sign_in.is_over
    assert not signed_in.sign_in.ensure_signed_in()
    assert signed_in.sign_ins == 1


def test_after_a_log_out_nobody_signs_in_again(signed_in: SignInHarness) -> None:
    signed_in.sign_in.log_out()
    signed_in.now += 3600
    assert not signed_in.sign_in.ensure_signed_in()
    assert (signed_in.client.logged_out, signed_in.sign_ins) == (1, 1)
    assert signed_in.kept[-1] == "", "nothing is left to go on with"


def test_a_log_out_that_the_server_does_not_hear_is_one_all_the_same(
    signed_in: SignInHarness, caplog: pytest.LogCaptureFixture
) -> None:
    signed_in.client.log_out_fails = True
    signed_in.sign_in.log_out()
    assert not signed_in.sign_in.ensure_signed_in()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# What is kept


def test_what_a_session_needs_for_a_restart_is_written_once_and_again_when_it_changes(signed_in: SignInHarness) -> None:
    signed_in.sign_in.save()
    assert signed_in.kept == [REMEMBERED]
    signed_in.client.cookie = "two"
    signed_in.sign_in.save()
    assert [json.loads(text)["client"] for text in signed_in.kept] == ["cookie one", "cookie two"]


def test_a_restart_goes_on_with_the_session_that_was_kept_and_asks_nobody() -> None:
    harness = SignInHarness(REMEMBERED)
    assert harness.sign_in.ensure_signed_in()
    assert (harness.client.thawed, harness.sign_ins) == (["cookie one"], 0)


@pytest.mark.parametrize("kept", ["no json", "[]", json.dumps({"login": IDENTITY.credentials.login}), None])
def test_what_cannot_be_read_is_a_session_to_sign_in_for(kept: str | None) -> None:
    harness = SignInHarness(kept)
    assert harness.status.state is SessionState.SIGNED_OUT
    assert harness.sign_in.ensure_signed_in()
    assert harness.sign_ins == 1


def test_the_session_of_another_login_is_left_alone() -> None:
    harness = SignInHarness(json.dumps({"login": "someone else", "client": "cookie one"}))
    assert (harness.client.thawed, harness.status.state) == ([], SessionState.SIGNED_OUT)


# The machine it describes


def test_a_session_without_a_frame_ends_for_a_machine_that_changed(signed_in: SignInHarness) -> None:
    signed_in.sign_in.end_if_outdated()
    assert signed_in.client.logged_out == 0, "nothing has changed"
    signed_in.sign_in.machine = DescribedMachine(hardware=STRONGER, hostname="pc2", node_id="n2")
    assert signed_in.sign_in.described_node == "", "the server was told of another"
    signed_in.sign_in.end_if_outdated()
    assert signed_in.client.logged_out == 1
    assert signed_in.sign_in.ensure_signed_in()
    assert [request.hardware for request in signed_in.client.signed_in_with] == [HARDWARE, STRONGER]
    assert signed_in.sign_in.described_node == "n2"


def test_a_session_that_has_had_a_frame_stays_whatever_machine_there_is(signed_in: SignInHarness) -> None:
    signed_in.sign_in.got_frame()
    signed_in.sign_in.machine = DescribedMachine(hardware=STRONGER)
    signed_in.sign_in.end_if_outdated()
    assert (signed_in.client.logged_out, signed_in.status.state) == (0, SessionState.SIGNED_IN)


def test_the_next_session_is_one_without_a_frame_again(signed_in: SignInHarness) -> None:
    signed_in.sign_in.got_frame()
    signed_in.sign_in.is_alive()
    signed_in.sign_in.session_died()
    assert signed_in.sign_in.ensure_signed_in()
    signed_in.sign_in.machine = DescribedMachine(hardware=STRONGER)
    signed_in.sign_in.end_if_outdated()
    assert signed_in.client.logged_out == 1


# The public key


def test_a_key_that_is_no_longer_taken_is_forgotten_and_the_password_is_tried_once(signed_in: SignInHarness) -> None:
    signed_in.client.public_key = "key"
    signed_in.client.sign_ins = [SignInStatus.AUTHENTICATION_FAILED, SILENCE, SignInStatus.OK]
    signed_in.sign_in.is_alive()
    signed_in.sign_in.session_died()
    assert not signed_in.sign_in.ensure_signed_in()
    signed_in.now += 60
    assert signed_in.sign_in.ensure_signed_in()
    passwords = [request.credentials.password for request in signed_in.client.signed_in_with]
    assert passwords == ["s3cret", "key", "s3cret", "s3cret"]


def test_a_speed_test_is_begun_where_the_server_names_targets(harness: SignInHarness) -> None:
    harness.client.speed_test_targets = ("http://server/speed",)
    assert harness.sign_in.ensure_signed_in()
    assert harness.measured == [("http://server/speed",)]
