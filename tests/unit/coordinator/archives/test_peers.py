"""Who is named as a source, and who is not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from coordinator.archives.manifests import PieceHashes
from coordinator.archives.peers import FETCHING_FOR_S, NAMED_AT_ONCE, PeerTable
from coordinator.archives.tracker import ArchiveTracker
from sheepfold.contract.api_messages import ArchiveManifest, ArchiveSources
from sheepfold.contract.presence import Presence
from tests.support.coordinator.fakes import node

MD5, OTHER = "a" * 32, "b" * 32


class PeerHarness:
    """PCs ``n1`` to ``n20``, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[str, Presence] = {f"n{number}": node(f"n{number}") for number in range(1, 21)}
        self.sources = PeerTable(lambda: self.nodes, clock=lambda: self.now, chance=random.Random(1))

    def has(self, node_id: str, url: str) -> None:
        """Its record says that it keeps the archive."""
        self.nodes[node_id] = replace(self.nodes[node_id], archive_url=url, shared=(MD5,))


@pytest.fixture
def harness() -> PeerHarness:
    return PeerHarness()


def test_a_node_that_asks_is_a_source_for_the_others_at_once_and_not_for_itself(harness: PeerHarness) -> None:
    harness.sources.asked(MD5, "n1", "http://10.0.0.1:1")
    assert harness.sources.others(MD5, "n2") == ("http://10.0.0.1:1",)
    assert harness.sources.others(MD5, "n1") == ()
    assert harness.sources.others(OTHER, "n2") == ()


def test_a_node_that_no_longer_asks_is_forgotten(harness: PeerHarness) -> None:
    harness.sources.asked(MD5, "n1", "http://10.0.0.1:1")
    harness.now = FETCHING_FOR_S
    assert harness.sources.others(MD5, "n2")
    harness.now += 0.1
    assert harness.sources.others(MD5, "n2") == ()


def test_a_node_whose_record_says_that_it_keeps_the_archive_is_a_source(harness: PeerHarness) -> None:
    harness.has("n1", "http://10.0.0.1:1")
    assert harness.sources.others(MD5, "n2") == ("http://10.0.0.1:1",)


def test_a_node_that_is_gone_or_quarantined_is_not_named(harness: PeerHarness) -> None:
    harness.has("n1", "http://10.0.0.1:1")
    harness.sources.asked(MD5, "n3", "http://10.0.0.3:1")
    del harness.nodes["n1"], harness.nodes["n3"]
    assert harness.sources.others(MD5, "n2") == ()


def test_a_few_are_named_by_chance(harness: PeerHarness) -> None:
    for number in range(1, 21):
        harness.has(f"n{number}", f"http://10.0.0.{number}:1")
    first, second = harness.sources.others(MD5, "n1"), harness.sources.others(MD5, "n1")
    assert len(first) == len(set(first)) == NAMED_AT_ONCE
    assert set(first) != set(second)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://10.0.0.1",
        "https://10.0.0.1:1",
        "http://a@10.0.0.1:1",
        "http://10.0.0.1:1/x",
        "http://h:1\n",
        "file:///x",
    ],
)
def test_an_address_that_is_none_is_not_passed_on(harness: PeerHarness, url: str) -> None:
    harness.sources.asked(MD5, "n1", url)
    harness.has("n3", url)
    assert harness.sources.others(MD5, "n2") == ()


def test_a_node_is_told_how_an_archive_travels_and_is_a_source_from_then_on(harness: PeerHarness) -> None:
    class FakeManifests:
        def of(self, md5: str) -> PieceHashes | None:
            return PieceHashes(size=9, piece_bytes=1024**2, sums=("s",)) if md5 == MD5 else None

    tracker = ArchiveTracker(lambda _: None, FakeManifests(), harness.sources, lambda host: f"http://{host}:8423")  # type: ignore[arg-type]
    assert tracker.plan(OTHER, "n1", "http://10.0.0.1:1", "c") is None
    assert tracker.plan(MD5, "n1", "http://10.0.0.1:1", "c") == ArchiveManifest(
        md5=MD5, size=9, piece_bytes=1024**2, sums=("s",), sources=ArchiveSources(coordinator="http://c:8423")
    )
    second = tracker.plan(MD5, "n2", "http://10.0.0.2:1", "c")
    assert second is not None
    assert second.sources.nodes == ("http://10.0.0.1:1",)
    assert tracker.sources(MD5, "n1", "", "c") is None, "it has gone from the disk"
