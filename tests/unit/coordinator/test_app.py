"""A coordinator that runs: what it opens and in which order, and how it ends."""

from __future__ import annotations

import logging
import threading
from typing import Any, cast

import pytest

from coordinator.app import AppServices, CoordinatorApp
from coordinator.broker.errors import FarmLocked
from coordinator.broker.farm_lock import Holder
from coordinator.runtime.errors import AddressInUse
from coordinator.runtime.stop_request import StopRequest

FOLLOWER = Holder(farm_id="b", host="pc", pid=1, since=0.0)
OPENING = [
    "state.open_ledger", "authority.open", "farm_lock.take", "users.open", "state.open_folders", "quarantine.load",
    "blocks.load", "claims.load", "sessions.open", "archives.bind", "api.bind",
]  # fmt: skip
STARTING = ["archives.start", "api.start", "loops.start", "session_loops.start"]
CLOSING = [
    "placer.close",
    "heartbeat.close",
    "api.stop",
    "archives.stop",
    "manifests.close",
    "inspector.close",
    "state.close",
]


class Recorder:
    """Stands for a part: notes what is called."""

    port, address = 8423, "127.0.0.1:8420"

    def __init__(self, name: str, recorded: RecordedApp) -> None:
        self._name, self._farm = name, recorded

    def __getattr__(self, call: str) -> Any:
        def note(*_: object) -> set[str]:
            step = f"{self._name}.{call}"
            if step == "state.session_keys":
                return set()
            self._farm.steps.append(step)
            if step == "session_loops.start":
                self._farm.runs.set()
            if step in self._farm.errors:
                raise self._farm.errors[step]
            return set()

        return note


class RecordedApp:
    """An app, and the steps it took."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.stop, self.runs = StopRequest(), threading.Event()
        names = [name for name in AppServices.__dataclass_fields__ if name != "stop"]
        parts = {name: cast("Any", Recorder(name, self)) for name in names}
        self.app = CoordinatorApp(AppServices(**parts, stop=self.stop))


@pytest.fixture
def recorded() -> RecordedApp:
    return RecordedApp()


def test_a_person_ends_it_from_another_thread_and_it_leaves_in_order(recorded: RecordedApp) -> None:
    def stop_when_it_runs() -> None:
        assert recorded.runs.wait(10)
        recorded.app.stop()

    threading.Thread(target=stop_when_it_runs).start()
    assert recorded.app.run() == 0
    leaving = recorded.steps[len(OPENING + STARTING) :]
    assert recorded.steps[: len(OPENING + STARTING)] == OPENING + STARTING
    assert leaving == [
        "loops.stop",
        "shutdown.send_what_is_ready",
        "heartbeat.close",
        "placer.close",
        "shutdown.log_out_all",
        "loops.join_farm_lock",
        "farm_lock.release",
        *CLOSING,
    ]


def test_a_refusal_ends_it_with_its_own_exit_code_and_is_told_last(
    recorded: RecordedApp, caplog: pytest.LogCaptureFixture
) -> None:
    recorded.stop.fail(ValueError("the account may not render (status 201)"))
    assert recorded.app.run() == 3
    assert "shutdown.send_what_is_ready" in recorded.steps
    assert caplog.records[-1].levelno == logging.CRITICAL
    assert caplog.records[-1].getMessage() == "the account may not render (status 201)"


def test_one_that_was_followed_leaves_the_servers_session_to_its_follower(recorded: RecordedApp) -> None:
    recorded.stop.fail(FarmLocked(FOLLOWER))
    assert recorded.app.run() == 1
    assert recorded.steps[len(OPENING + STARTING) :] == ["loops.stop", "session_loops.stop", *CLOSING]


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("farm_lock.take", FarmLocked(FOLLOWER)),
        ("api.bind", AddressInUse("SHEEPFOLD_PORT", "127.0.0.1", 8420, "in use")),
    ],
)
def test_one_that_cannot_begin_closes_what_it_opened_and_starts_nothing(
    recorded: RecordedApp, step: str, error: Exception
) -> None:
    recorded.errors[step] = error
    with pytest.raises(type(error)):
        recorded.app.run()
    assert recorded.steps == OPENING[: OPENING.index(step) + 1] + CLOSING
