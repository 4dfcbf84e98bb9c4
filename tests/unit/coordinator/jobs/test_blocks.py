from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.jobs.blocks import BlockedBy, JobBlocks
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from tests.support.coordinator.builders import open_ledger

SERVER = "http://render.example"


@pytest.fixture
def blocks(ledger: Ledger) -> JobBlocks:
    return JobBlocks(KeyValueStore(ledger.database), SERVER, wall_clock=iter(range(1000, 2000)).__next__)


def test_nothing_is_blocked_at_first(blocks: JobBlocks) -> None:
    assert not blocks.is_blocked("101", "0001")
    assert blocks.all() == []


def test_a_blocked_job_is_blocked_with_all_its_frames_and_says_why(blocks: JobBlocks) -> None:
    block = blocks.block("101", "film", "Cannot render, no camera", BlockedBy.FARM)
    assert blocks.of("101", "0001") == blocks.of("101", "9999") == block
    assert (block.reason, block.by, block.since, block.label) == (
        "Cannot render, no camera",
        BlockedBy.FARM,
        1000,
        "job 101 · film",
    )
    assert not blocks.is_blocked("102", "0001")


def test_a_single_frame_is_blocked_alone(blocks: JobBlocks) -> None:
    block = blocks.block("101", "film", "not wanted", BlockedBy.OPERATOR, frame="0002")
    assert blocks.of("101", "0002") == block
    assert block.label == "frame 0002 of job 101 · film"
    assert not blocks.is_blocked("101", "0001")
    assert not blocks.is_blocked("101", "2"), "a frame is a text"


def test_a_job_is_unblocked_by_number_or_name_with_its_single_frames(blocks: JobBlocks) -> None:
    for job in ("101", "film"):
        blocks.block("101", "film", "", BlockedBy.OPERATOR)
        blocks.block("101", "film", "", BlockedBy.OPERATOR, frame="0002")
        blocks.block("102", "other", "", BlockedBy.OPERATOR)
        assert [block.frame for block in blocks.unblock(job)] == [None, "0002"]
        assert [block.job_id for block in blocks.all()] == ["102"]
        assert blocks.unblock(job) == []


def test_unblocking_one_frame_leaves_the_others(blocks: JobBlocks) -> None:
    blocks.block("101", "film", "", BlockedBy.OPERATOR, frame="0002")
    blocks.block("101", "film", "", BlockedBy.OPERATOR, frame="0003")
    assert [block.frame for block in blocks.unblock("film", "0002")] == ["0002"]
    assert blocks.is_blocked("101", "0003")


def test_the_farm_does_not_replace_what_an_operator_said(blocks: JobBlocks) -> None:
    block = blocks.block("101", "film", "cancelled", BlockedBy.OPERATOR, at_server=True)
    assert blocks.block("101", "film", "no camera", BlockedBy.FARM) == block
    assert blocks.all() == [block]


def test_an_operator_replaces_what_the_farm_found(blocks: JobBlocks) -> None:
    blocks.block("101", "film", "no camera", BlockedBy.FARM)
    block = blocks.block("101", "film", "cancelled", BlockedBy.OPERATOR)
    assert blocks.all() == [block]


def test_blocks_survive_a_restart_and_count_only_at_their_own_server(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = open_ledger(path)
    before = JobBlocks(KeyValueStore(ledger.database), SERVER).load()
    before.block("101", "film", "cancelled", BlockedBy.OPERATOR, at_server=True)
    before.block("101", "film", "cancelled", BlockedBy.OPERATOR, frame="0002")
    ledger.database.close()
    ledger = open_ledger(path)
    assert JobBlocks(KeyValueStore(ledger.database), SERVER).load().all() == before.all()
    assert JobBlocks(KeyValueStore(ledger.database), "http://another.example").load().all() == []
    ledger.database.close()


@pytest.mark.parametrize("kept", ["{", "[1]", '[{"job_id": "1"}]', '[{"by": "nobody"}]', "null"])
def test_a_list_that_cannot_be_read_blocks_nothing_and_is_said(
    ledger: Ledger, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    KeyValueStore(ledger.database).put(f"job-blocks:{SERVER}", kept)
    assert JobBlocks(KeyValueStore(ledger.database), SERVER).load().all() == []
    assert "cancel again" in caplog.text
