"""Why the coordinator ends."""

from __future__ import annotations

import threading

from coordinator.runtime.stop_request import StopRequest


def test_a_person_who_asks_ends_the_wait_without_an_error() -> None:
    stop = StopRequest()
    threading.Thread(target=stop.ask).start()
    stop.wait()
    assert (stop.was_asked, stop.error) == (True, None)


def test_the_first_error_is_the_reason_and_nobody_asked() -> None:
    stop, first = StopRequest(), ValueError("first")
    stop.fail(first)
    stop.fail(ValueError("follows from it"))
    stop.wait()
    assert (stop.was_asked, stop.error) == (False, first)


def test_a_person_may_ask_after_an_error() -> None:
    stop = StopRequest()
    stop.fail(ValueError("refused"))
    stop.ask()
    assert stop.was_asked
