from __future__ import annotations

import json
import logging

import pytest

from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import Lease
from coordinator.leases.ledger import Ledger
from coordinator.nodes.quarantine import STRIKES_TO_QUARANTINE, NodeQuarantine
from sheepfold.contract.api_messages import FailureKind
from tests.support.coordinator.builders import rendering

CRASHED, BROKEN = FailureKind.RENDERER_CRASHED, FailureKind.BAD_PICTURE


@pytest.fixture
def conduct(ledger: Ledger) -> NodeQuarantine:
    return NodeQuarantine(KeyValueStore(ledger.database)).load()


class FailingFrames:
    """Frames that go wrong on one PC and are finished by another."""

    def __init__(self, ledger: Ledger, conduct: NodeQuarantine) -> None:
        self.ledger, self.conduct, self.count = ledger, conduct, 0

    def lease(self, node: str = "good") -> Lease:
        self.count += 1
        return rendering(self.ledger, f"{self.count:04}", node)

    def wrong_only_on(self, node: str, kind: FailureKind = CRASHED, *, name: str = "pc-03") -> Lease:
        lease = self.lease("good")
        self.conduct.failed(lease, node, name, kind, "signal 11")
        self.conduct.succeeded(lease)
        return lease

    def finished_by(self, node: str) -> None:
        self.conduct.succeeded(self.lease(node))


@pytest.fixture
def frames(ledger: Ledger, conduct: NodeQuarantine) -> FailingFrames:
    return FailingFrames(ledger, conduct)


def test_a_failure_alone_says_nothing(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(10):
        conduct.failed(frames.lease(), "n1", "pc-03", CRASHED, "signal 11")
    assert not conduct.is_quarantined("n1")
    assert conduct.strikes_of("n1") == []


def test_a_pc_is_quarantined_after_two_frames_that_others_finished(
    conduct: NodeQuarantine, frames: FailingFrames, caplog: pytest.LogCaptureFixture
) -> None:
    frames.wrong_only_on("n1")
    assert conduct.strikes_of("n1") == ["failed: frame 0001 · demo: signal 11"]
    assert not conduct.is_quarantined("n1")
    assert not caplog.records or caplog.records[-1].levelno < logging.ERROR

    frames.wrong_only_on("n1")
    assert conduct.is_quarantined("n1")
    assert conduct.quarantined() == {"n1": "pc-03"}
    assert "sheepfold node release pc-03" in caplog.text
    assert not conduct.is_quarantined("good")


def test_it_is_said_once(conduct: NodeQuarantine, frames: FailingFrames, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(STRIKES_TO_QUARANTINE + 3):
        frames.wrong_only_on("n1")
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1


def test_whoever_is_quarantined_is_told_of_once_and_after_the_ledger(ledger: Ledger, conduct: NodeQuarantine) -> None:
    frames, told = FailingFrames(ledger, conduct), []
    for _ in range(3):
        lease = frames.lease()
        conduct.failed(lease, "n1", "pc-03", CRASHED, "signal 11")
        told.append(conduct.succeeded(lease))
    assert told == [[], ["n1"], []]
    assert [conduct.refused(frames.lease("n2"), "pc-04", "status 301") for _ in range(3)] == [False, True, False]
    kept = KeyValueStore(ledger.database).get("quarantine") or ""
    assert "n1" in kept
    assert "n2" in kept


def test_a_frame_that_fails_everywhere_marks_nobody(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(5):
        lease = frames.lease()
        for node in ("n1", "n2", "n3"):
            conduct.failed(lease, node, node, CRASHED, "signal 11")
        conduct.ended(lease)
        conduct.succeeded(lease)  # whatever may still be said of it
    assert conduct.quarantined() == {}
    assert [conduct.strikes_of(node) for node in ("n1", "n2", "n3")] == [[], [], []]


def test_a_pc_that_finishes_its_own_second_try_has_no_mark(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(3):
        lease = frames.lease("n1")
        conduct.failed(lease, "n1", "pc-03", BROKEN, "black")
        conduct.succeeded(lease)
    assert conduct.strikes_of("n1") == []


def test_everybody_who_failed_a_frame_that_another_finished_has_a_mark(
    conduct: NodeQuarantine, frames: FailingFrames
) -> None:
    lease = frames.lease("good")
    conduct.failed(lease, "n1", "pc-01", CRASHED, "signal 11")
    conduct.failed(lease, "n2", "pc-02", BROKEN, "black")
    conduct.succeeded(lease)
    assert conduct.strikes_of("n1") == ["failed: frame 0001 · demo: signal 11"]
    assert conduct.strikes_of("n2") == ["broken picture: frame 0001 · demo: black"]


def test_a_frame_failed_twice_on_one_pc_is_one_mark(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    lease = frames.lease("good")
    conduct.failed(lease, "n1", "pc-01", CRASHED, "signal 11")
    conduct.failed(lease, "n1", "pc-01", CRASHED, "signal 9")
    conduct.succeeded(lease)
    assert conduct.strikes_of("n1") == ["failed: frame 0001 · demo: signal 9"]


def test_failed_frames_are_forgotten_with_the_next_good_one(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(5):
        frames.wrong_only_on("n1")
        frames.finished_by("n1")
    assert conduct.strikes_of("n1") == []
    assert not conduct.is_quarantined("n1")


def test_broken_pictures_and_refused_frames_are_not_forgotten(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    frames.wrong_only_on("n1", BROKEN)
    frames.finished_by("n1")
    conduct.refused(frames.lease("n1"), "pc-03", "the server says that the frame is broken (status 301)")
    assert conduct.is_quarantined("n1")


def test_a_good_frame_does_not_bring_a_pc_back(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(2):
        frames.wrong_only_on("n1")
    frames.finished_by("n1")
    assert conduct.is_quarantined("n1")
    assert len(conduct.strikes_of("n1")) == 2


@pytest.mark.parametrize(("name", "shown"), [("pc-03", "pc-03"), ("", "n1")])
def test_a_pc_that_was_quarantined_for_refused_frames_can_be_named_and_released(
    conduct: NodeQuarantine, frames: FailingFrames, name: str, shown: str
) -> None:
    for _ in range(2):
        conduct.refused(frames.lease("n1"), name, "status 301")
    assert conduct.quarantined() == {"n1": shown}
    assert conduct.release(shown)
    assert not conduct.is_quarantined("n1")


@pytest.mark.parametrize("by", ["pc-03", "n1"])
def test_a_pc_is_released_by_name_or_id_and_begins_afresh(
    conduct: NodeQuarantine, frames: FailingFrames, by: str
) -> None:
    for _ in range(2):
        frames.wrong_only_on("n1", BROKEN)
    assert conduct.release(by)
    assert (conduct.is_quarantined("n1"), conduct.strikes_of("n1"), conduct.quarantined()) == (False, [], {})
    frames.wrong_only_on("n1", BROKEN)
    assert not conduct.is_quarantined("n1"), "it takes two again"


def test_nobody_of_that_name_is_nobody(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    frames.wrong_only_on("n1")
    assert not conduct.release("pc-99")
    assert not conduct.release("")
    assert len(conduct.strikes_of("n1")) == 1


def test_what_a_released_pc_did_before_is_forgotten_too(conduct: NodeQuarantine, frames: FailingFrames) -> None:
    under_way = frames.lease("good")
    conduct.failed(under_way, "n1", "pc-03", BROKEN, "black")
    for _ in range(2):
        frames.wrong_only_on("n1")
    assert conduct.release("pc-03")
    conduct.succeeded(under_way)
    assert conduct.strikes_of("n1") == []


def test_a_restart_releases_nobody(ledger: Ledger, conduct: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(2):
        frames.wrong_only_on("n1")
    frames.wrong_only_on("n2", BROKEN, name="pc-04")
    after = NodeQuarantine(KeyValueStore(ledger.database)).load()
    assert after.quarantined() == {"n1": "pc-03"}
    assert after.strikes_of("n2") == ["broken picture: frame 0003 · demo: signal 11"]
    after.refused(frames.lease("n2"), "", "status 302")
    assert NodeQuarantine(KeyValueStore(ledger.database)).load().quarantined() == {"n1": "pc-03", "n2": "pc-04"}


def test_a_restart_remembers_who_was_released(ledger: Ledger, conduct: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(2):
        frames.wrong_only_on("n1")
    conduct.release("pc-03")
    assert NodeQuarantine(KeyValueStore(ledger.database)).load().quarantined() == {}


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"n1": null}',
        '{"n1": {"name": "pc", "strikes": 3, "is_quarantined": true}}',
        '{"n1": {"name": "pc", "strikes": [{"kind": "of another version", "what": "x"}], "is_quarantined": true}}',
        '{"n1": {"strikes": []}}',
    ],
)
def test_what_cannot_be_read_is_as_if_nothing_was_kept(ledger: Ledger, kept: str) -> None:
    KeyValueStore(ledger.database).put("quarantine", kept)
    conduct = NodeQuarantine(KeyValueStore(ledger.database)).load()
    assert conduct.quarantined() == {}
    conduct.refused(rendering(ledger), "pc-03", "status 301")
    assert json.loads(KeyValueStore(ledger.database).get("quarantine") or "")["n1"]["strikes"]


def test_frames_that_ended_leave_nothing_behind(ledger: Ledger, conduct: NodeQuarantine, frames: FailingFrames) -> None:
    for number in range(50):
        lease = frames.lease("good")
        conduct.failed(lease, "n1", "pc-03", CRASHED, "signal 11")
        (conduct.ended if number % 2 else conduct.succeeded)(lease)
    assert conduct._open == {}  # it would grow for weeks
