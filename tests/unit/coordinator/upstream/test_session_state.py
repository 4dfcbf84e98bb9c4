"""What the threads of a session share: refusals that stay, each of its own exchange."""

from __future__ import annotations

import threading

import pytest

from coordinator.upstream.errors import FatalRefusal
from coordinator.upstream.session_state import SessionState, SessionStatus


def test_a_session_begins_signed_out_and_nothing_is_refused() -> None:
    status = SessionStatus()
    status.check("sign-in")
    assert (status.state, status.notice, status.refusals) == (SessionState.SIGNED_OUT, "not signed in yet", {})


def test_a_refusal_is_raised_by_every_later_check_with_the_words_of_the_first() -> None:
    status = SessionStatus()
    raised = status.refuse("job request", "no rendering right")
    assert (str(raised), status.notice) == ("no rendering right", "no rendering right")
    status.notice = "something newer"
    for _ in range(2):
        with pytest.raises(FatalRefusal, match=r"^no rendering right$"):
            status.check("job request")


def test_a_refused_exchange_leaves_the_others_open() -> None:
    status = SessionStatus()
    status.refuse("job request", "no rendering right")
    status.check("sign-in")


def test_a_refusal_does_not_change_where_the_session_stands() -> None:
    status = SessionStatus(state=SessionState.SIGNED_IN)
    status.refuse("job request", "no rendering right")
    assert status.state is SessionState.SIGNED_IN, "pictures can still be uploaded"


def test_who_holds_the_lock_may_refuse_and_others_wait_for_it() -> None:
    status, checked = SessionStatus(), threading.Event()

    def check() -> None:
        with pytest.raises(FatalRefusal):
            status.check("sign-in")
        checked.set()

    with status.lock:
        thread = threading.Thread(target=check)
        thread.start()
        assert not checked.wait(0.05), "nobody reads a status that is being changed"
        status.refuse("sign-in", "wrong password")
    thread.join(5)
    assert checked.is_set()


def test_sessions_share_nothing() -> None:
    SessionStatus().refuse("sign-in", "wrong password")
    SessionStatus().check("sign-in")
