"""When a lab run has nothing to wait for any more."""

from __future__ import annotations

from typing import Any

import pytest

from lab.demo_run.farm_watch import LOOK_EVERY_S, SETTLES_S, FarmWatch

STALL_S = 65.0


def slot(**changes: Any) -> dict[str, Any]:
    values = {"lease_id": "a", "attempt": 1, "frame": "0001", "stage": "rendering", "progress": None}
    return values | {"remaining_s": None, "memory_kb": 100} | changes


def pc(name: str, *busy: dict[str, Any], quarantined: bool = False, trouble: str = "", strikes: tuple[str, ...] = ()):
    return {"name": name, "quarantined": quarantined, "trouble": trouble, "strikes": list(strikes), "busy": list(busy)}


class WatchedRun:
    """A run of two PCs, and its clock."""

    def __init__(self) -> None:
        self.now, self.changes = 0.0, 0
        self.answers = True
        self.session = {"name": "linux/64bit", "state": "signed in", "notice": "the server gave a frame"}
        self.nodes = [pc("worker-01"), pc("worker-02")]
        self.said: list[str] = []
        self.watch = FarmWatch(self._read, self.said.append, workers=2, stall_s=STALL_S, clock=lambda: self.now)

    def _read(self) -> dict[str, Any] | None:
        return {"sessions": [self.session], "nodes": self.nodes} if self.answers else None

    def goes_on(self, seconds: float) -> str:
        """The first verdict within so many seconds."""
        end = self.now + seconds
        while self.now < end:
            self.watch.look({"changes": self.changes})
            if verdict := self.watch.verdict():
                return verdict
            self.now += 0.5
        return ""


@pytest.fixture
def run() -> WatchedRun:
    return WatchedRun()


def test_a_run_whose_pcs_are_all_quarantined_ends_within_seconds_and_says_why(run: WatchedRun) -> None:
    assert run.goes_on(10) == ""
    began = run.now
    strikes = ("refused: frame 0001 · s: the server says that the frame is broken (status 301)",)
    run.nodes = [
        pc("worker-01", quarantined=True, strikes=strikes * 2),
        pc("worker-02", quarantined=True, strikes=strikes),
    ]
    assert run.goes_on(30) == "every PC is quarantined"
    assert run.now - began <= LOOK_EVERY_S + SETTLES_S + 1
    assert run.watch.lines() == [
        f"worker-01 is quarantined: {strikes[0]}; {strikes[0]}",
        f"worker-02 is quarantined: {strikes[0]}",
    ]


def test_one_pc_that_is_left_is_waited_for(run: WatchedRun) -> None:
    run.nodes = [pc("worker-01", quarantined=True), pc("worker-02")]
    assert run.goes_on(STALL_S - 10) == ""


def test_so_is_one_that_has_not_joined_yet(run: WatchedRun) -> None:
    run.nodes = [pc("worker-01", quarantined=True)]
    assert run.goes_on(STALL_S - 10) == ""


def test_what_ends_a_run_has_to_last(run: WatchedRun) -> None:
    run.nodes = [pc("worker-01", quarantined=True), pc("worker-02", quarantined=True)]
    assert run.goes_on(SETTLES_S - 1) == ""
    run.nodes = [pc("worker-01"), pc("worker-02")]
    assert run.goes_on(20) == ""


def test_a_disabled_session_ends_it_too(run: WatchedRun) -> None:
    run.goes_on(5)
    run.session |= {"state": "disabled", "notice": "the server has disabled the session (status 203)"}
    assert run.goes_on(20) == "the server has disabled the session and gives no more frames"
    assert run.watch.lines() == [
        "the server session of linux/64bit is disabled: the server has disabled the session (status 203)"
    ]


def test_nothing_new_for_too_long_ends_it_whatever_is_beaten_for(run: WatchedRun) -> None:
    run.nodes = [pc("worker-01", slot(stage="waiting")), pc("worker-02", trouble="disk full: make room")]
    assert run.goes_on(STALL_S + 5) == "nothing has happened for 65 s"
    assert STALL_S <= run.now <= STALL_S + 1
    assert run.watch.lines() == [
        "worker-01: frame 0001, waiting",
        "worker-02 is paused: disk full: make room",
    ]


@pytest.mark.parametrize("figure", ["progress", "remaining_s", "memory_kb"])
def test_a_slow_frame_that_gets_on_is_waited_for(run: WatchedRun, figure: str) -> None:
    for step in range(10):
        run.nodes = [pc("worker-01", slot(**{figure: step})), pc("worker-02")]
        assert run.goes_on(STALL_S - 10) == ""


def test_a_frame_that_changes_at_the_server_is_a_sign_of_life(run: WatchedRun) -> None:
    for _ in range(5):
        run.changes += 1
        assert run.goes_on(STALL_S - 5) == ""


def test_a_coordinator_that_does_not_answer_is_no_sign_of_life_and_no_end(run: WatchedRun) -> None:
    run.answers = False
    assert run.goes_on(STALL_S - 5) == ""
    assert run.goes_on(20) == "nothing has happened for 65 s"


def test_a_pc_that_pauses_is_told_once_with_its_reason(run: WatchedRun) -> None:
    run.nodes = [pc("worker-01"), pc("worker-02", trouble="disk full: make room")]
    run.goes_on(10)
    assert run.said == ["worker-02 is paused: disk full: make room"]


def test_strikes_of_a_pc_that_still_renders_are_told_as_well(run: WatchedRun) -> None:
    quarantined = pc("worker-02", quarantined=True, strikes=("x", "y"))
    run.nodes = [pc("worker-01", strikes=("refused: frame 0001",)), quarantined]
    run.goes_on(3)
    assert run.watch.lines() == [
        "worker-01 had frames that went wrong: refused: frame 0001",
        "worker-02 is quarantined: x; y",
    ]
