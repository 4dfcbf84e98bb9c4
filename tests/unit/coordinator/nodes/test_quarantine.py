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
def quarantine(ledger: Ledger) -> NodeQuarantine:
    return NodeQuarantine(KeyValueStore(ledger.database)).load()


class FailingFrames:
    """Frames that go wrong on one PC and are finished by another."""

    def __init__(self, ledger: Ledger, quarantine: NodeQuarantine) -> None:
        self.ledger, self.quarantine, self.count = ledger, quarantine, 0

    def lease(self, node: str = "good") -> Lease:
        self.count += 1
        return rendering(self.ledger, f"{self.count:04}", node)

    def wrong_only_on(self, node: str, kind: FailureKind = CRASHED, *, name: str = "pc-03") -> Lease:
        lease = self.lease("good")
        self.quarantine.failed(lease, node, name, kind, "signal 11")
        self.quarantine.succeeded(lease)
        return lease

    def finished_by(self, node: str) -> None:
        self.quarantine.succeeded(self.lease(node))


@pytest.fixture
def frames(ledger: Ledger, quarantine: NodeQuarantine) -> FailingFrames:
    return FailingFrames(ledger, quarantine)


def test_a_failure_alone_says_nothing(quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(10):
        quarantine.failed(frames.lease(), "n1", "pc-03", CRASHED, "signal 11")
    assert not quarantine.is_quarantined("n1")
    assert quarantine.strikes_of("n1") == []


def test_a_pc_is_quarantined_after_two_frames_that_others_finished(
    quarantine: NodeQuarantine, frames: FailingFrames, caplog: pytest.LogCaptureFixture
) -> None:
    frames.wrong_only_on("n1")
    assert quarantine.strikes_of("n1") == ["failed: frame 0001 · demo: signal 11"]
    assert not quarantine.is_quarantined("n1")
    assert not caplog.records or caplog.records[-1].levelno < logging.ERROR

    frames.wrong_only_on("n1")
    assert quarantine.is_quarantined("n1")
    assert quarantine.quarantined() == {"n1": "pc-03"}
    assert "sheepfold node release pc-03" in caplog.text
    assert not quarantine.is_quarantined("good")


def test_it_is_said_once(quarantine: NodeQuarantine, frames: FailingFrames, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(STRIKES_TO_QUARANTINE + 3):
        frames.wrong_only_on("n1")
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1


def test_whoever_is_quarantined_is_told_of_once_and_after_the_ledger(
    ledger: Ledger, quarantine: NodeQuarantine
) -> None:
    frames, quarantined = FailingFrames(ledger, quarantine), []
    for _ in range(3):
        lease = frames.lease()
        quarantine.failed(lease, "n1", "pc-03", CRASHED, "signal 11")
        quarantined.append(quarantine.succeeded(lease))
    assert quarantined == [[], ["n1"], []]
    assert [quarantine.refused(frames.lease("n2"), "pc-04", "status 301") for _ in range(3)] == [False, True, False]
    kept = KeyValueStore(ledger.database).get("quarantine") or ""
    assert "n1" in kept
    assert "n2" in kept


def test_a_frame_that_fails_everywhere_marks_nobody(quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(5):
        lease = frames.lease()
        for node in ("n1", "n2", "n3"):
            quarantine.failed(lease, node, node, CRASHED, "signal 11")
        quarantine.ended(lease)
        quarantine.succeeded(lease)  # whatever may still be said of it
    assert quarantine.quarantined() == {}
    assert [quarantine.strikes_of(node) for node in ("n1", "n2", "n3")] == [[], [], []]


def test_a_pc_that_finishes_its_own_second_try_has_no_mark(quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(3):
        lease = frames.lease("n1")
        quarantine.failed(lease, "n1", "pc-03", BROKEN, "black")
        quarantine.succeeded(lease)
    assert quarantine.strikes_of("n1") == []


def test_everybody_who_failed_a_frame_that_another_finished_has_a_mark(
    quarantine: NodeQuarantine, frames: FailingFrames
) -> None:
    lease = frames.lease("good")
    quarantine.failed(lease, "n1", "pc-01", CRASHED, "signal 11")
    quarantine.failed(lease, "n2", "pc-02", BROKEN, "black")
    quarantine.succeeded(lease)
    assert quarantine.strikes_of("n1") == ["failed: frame 0001 · demo: signal 11"]
    assert quarantine.strikes_of("n2") == ["broken picture: frame 0001 · demo: black"]


def test_a_frame_failed_twice_on_one_pc_is_one_mark(quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    lease = frames.lease("good")
    quarantine.failed(lease, "n1", "pc-01", CRASHED, "signal 11")
    quarantine.failed(lease, "n1", "pc-01", CRASHED, "signal 9")
    quarantine.succeeded(lease)
    assert quarantine.strikes_of("n1") == ["failed: frame 0001 · demo: signal 9"]


def test_failed_frames_are_forgotten_with_the_next_good_one(quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(5):
        frames.wrong_only_on("n1")
        frames.finished_by("n1")
    assert quarantine.strikes_of("n1") == []
    assert not quarantine.is_quarantined("n1")


def test_broken_pictures_and_refused_frames_are_not_forgotten(
    quarantine: NodeQuarantine, frames: FailingFrames
) -> None:
    frames.wrong_only_on("n1", BROKEN)
    frames.finished_by("n1")
    quarantine.refused(frames.lease("n1"), "pc-03", "the server says that the frame is broken (status 301)")
    assert quarantine.is_quarantined("n1")


def test_a_good_frame_does_not_bring_a_pc_back(quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(2):
        frames.wrong_only_on("n1")
    frames.finished_by("n1")
    assert quarantine.is_quarantined("n1")
    assert len(quarantine.strikes_of("n1")) == 2


@pytest.mark.parametrize(("name", "shown"), [("pc-03", "pc-03"), ("", "n1")])
def test_a_pc_that_was_quarantined_for_refused_frames_can_be_named_and_released(
    quarantine: NodeQuarantine, frames: FailingFrames, name: str, shown: str
) -> None:
    for _ in range(2):
        quarantine.refused(frames.lease("n1"), name, "status 301")
    assert quarantine.quarantined() == {"n1": shown}
    assert quarantine.release(shown)
    assert not quarantine.is_quarantined("n1")


@pytest.mark.parametrize("by", ["pc-03", "n1"])
def test_a_pc_is_released_by_name_or_id_and_begins_afresh(
    quarantine: NodeQuarantine, frames: FailingFrames, by: str
) -> None:
    for _ in range(2):
        frames.wrong_only_on("n1", BROKEN)
    assert quarantine.release(by)
    assert (quarantine.is_quarantined("n1"), quarantine.strikes_of("n1"), quarantine.quarantined()) == (False, [], {})
    frames.wrong_only_on("n1", BROKEN)
    assert not quarantine.is_quarantined("n1"), "it takes two again"


def test_nobody_of_that_name_is_nobody(quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    frames.wrong_only_on("n1")
    assert not quarantine.release("pc-99")
    assert not quarantine.release("")
    assert len(quarantine.strikes_of("n1")) == 1


def test_what_a_released_pc_did_before_is_forgotten_too(quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    under_way = frames.lease("good")
    quarantine.failed(under_way, "n1", "pc-03", BROKEN, "black")
    for _ in range(2):
        frames.wrong_only_on("n1")
    assert quarantine.release("pc-03")
    quarantine.succeeded(under_way)
    assert quarantine.strikes_of("n1") == []


def test_a_restart_releases_nobody(ledger: Ledger, quarantine: NodeQuarantine, frames: FailingFrames) -> None:
    for _ in range(2):
        frames.wrong_only_on("n1")
    frames.wrong_only_on("n2", BROKEN, name="pc-04")
    after = NodeQuarantine(KeyValueStore(ledger.database)).load()
    assert after.quarantined() == {"n1": "pc-03"}
    assert after.strikes_of("n2") == ["broken picture: frame 0003 · demo: signal 11"]
    after.refused(frames.lease("n2"), "", "status 302")
    assert NodeQuarantine(KeyValueStore(ledger.database)).load().quarantined() == {"n1": "pc-03", "n2": "pc-04"}


def test_a_restart_remembers_who_was_released(
    ledger: Ledger, quarantine: NodeQuarantine, frames: FailingFrames
) -> None:
    for _ in range(2):
        frames.wrong_only_on("n1")
    quarantine.release("pc-03")
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
    quarantine = NodeQuarantine(KeyValueStore(ledger.database)).load()
    assert quarantine.quarantined() == {}
    quarantine.refused(rendering(ledger), "pc-03", "status 301")
    assert json.loads(KeyValueStore(ledger.database).get("quarantine") or "")["n1"]["strikes"]


def test_frames_that_ended_leave_nothing_behind(
    ledger: Ledger, quarantine: NodeQuarantine, frames: FailingFrames
) -> None:
    for number in range(50):
        lease = frames.lease("good")
        quarantine.failed(lease, "n1", "pc-03", CRASHED, "signal 11")
        (quarantine.ended if number % 2 else quarantine.succeeded)(lease)
    assert quarantine._open == {}  # it would grow for weeks
