"""Archives on a LAN of several nodes: from whom they come, and what a bad node can do about it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from render_tasks.archives.cache import TRIES
from render_tasks.errors import ArchiveMissing, AttemptDropped, BadArchive, CoordinatorUnreachable
from sheepfold.contract.orders import ArchiveRef
from sheepfold.sharing.archive_server import ArchiveServer
from sheepfold.sharing.pieces import BLOCK_BYTES, all_of
from sheepfold.sharing.shared_archive import SharedArchive
from tests.support.nodes.node_group import TOKEN, CachingNode, NodeGroup, SilentPeer

#: Enough pieces for everybody to have something to hand on.
LARGE = 40 * BLOCK_BYTES
#: A stopped fetch is over after this.
STOPS_WITHIN_S = 1.0


@pytest.fixture
def node_group(tmp_path: Path) -> Iterator[NodeGroup]:
    node_group = NodeGroup(tmp_path)
    yield node_group
    node_group.close()


def fetched(node: CachingNode, ref: ArchiveRef) -> bytes:
    """What came, unpacked."""
    return (node.cache.ensure([ref]) / "scene.blend").read_bytes()


def test_a_small_archive_costs_one_question_and_one_piece(node_group: NodeGroup) -> None:
    ref, node = node_group.archive(100_000), node_group.node()
    node_group.record("n9", "http://127.0.0.1:9", ref.md5)
    node.cache.ensure([ref])
    assert node_group.archives.asked == [ref.md5]
    assert node.cache.shares() == ()


def test_a_small_archive_never_waits_for_another_node(node_group: NodeGroup) -> None:
    """Given a coordinator that rests for a moment, when there is a node that hangs, then nobody asks that one."""
    ref, node, silent, found = node_group.archive(100_000), node_group.node(), SilentPeer(), node_group.archives.found
    node_group.record("n9", silent.url, ref.md5)
    node_group.archives.found = lambda md5: found(md5) if len(node_group.archives.asked) > 1 else None
    node.cache.ensure([ref])
    assert not silent.called.is_set()
    silent.close()


def test_many_nodes_at_once_all_get_it_and_hand_on_most_of_it_themselves(tmp_path: Path) -> None:
    """Given a coordinator that sends piece by piece, as over a narrow cable, when five nodes want one archive."""
    node_group = NodeGroup(tmp_path, coordinator_at_once=1)
    ref, nodes = node_group.archive(LARGE), [node_group.node() for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        contents = list(pool.map(lambda node: fetched(node, ref), nodes))
    assert len(set(contents)) == 1
    assert len(contents[0]) == LARGE
    assert node_group.coordinator.bytes_sent < 2.5 * ref.size
    assert sum(node.server.bytes_sent for node in nodes if node.server) > 2 * ref.size
    assert all(node.cache.shares() == (ref.md5,) for node in nodes)
    node_group.close()


def test_a_node_that_comes_later_has_it_from_the_others(node_group: NodeGroup) -> None:
    ref, first = node_group.archive(LARGE), node_group.node()
    first.cache.ensure([ref])
    node_group.record("n1", first.url, *first.cache.shares())
    before = node_group.coordinator.bytes_sent
    second = node_group.node()
    assert len(fetched(second, ref)) == LARGE
    assert node_group.coordinator.bytes_sent - before < ref.size / 4
    assert first.server is not None
    assert first.server.bytes_sent > ref.size / 2


def test_slots_that_want_the_same_archive_fetch_it_once(node_group: NodeGroup) -> None:
    ref, node = node_group.archive(LARGE), node_group.node()
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: node.cache.ensure([ref]), range(4)))) == 1
    assert node_group.coordinator.bytes_sent == ref.size


def test_a_node_that_does_not_share_is_nobodys_source(node_group: NodeGroup) -> None:
    ref, selfish = node_group.archive(LARGE), node_group.node(share=False)
    selfish.cache.ensure([ref])
    before = node_group.coordinator.bytes_sent
    node_group.node().cache.ensure([ref])
    assert node_group.coordinator.bytes_sent - before == ref.size


@pytest.fixture
def corrupt_peer(node_group: NodeGroup, tmp_path: Path) -> Iterator[Callable[[ArchiveRef], ArchiveServer]]:
    """Says it has all of an archive, and sends other bytes."""
    servers: list[ArchiveServer] = []

    def make(ref: ArchiveRef) -> ArchiveServer:
        path, count = tmp_path / "lies", -(-ref.size // BLOCK_BYTES)
        path.write_bytes(os.urandom(ref.size))
        wrong_archive = SharedArchive(path=path, size=ref.size, piece_bytes=BLOCK_BYTES, pieces=all_of(count))
        servers.append(ArchiveServer(lambda _: wrong_archive, TOKEN, at_once=8).bind("127.0.0.1", 0))
        servers[-1].start()
        node_group.record("n9", f"http://127.0.0.1:{servers[-1].port}", ref.md5)
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def test_a_node_that_sends_wrong_bytes_is_found_out_and_left_alone(
    node_group: NodeGroup, corrupt_peer: Callable[[ArchiveRef], ArchiveServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("render_tasks.archives.swarm.UNREACHABLE_S", 0.0)  # a lie weighs more than a failure
    ref, node = node_group.archive(LARGE), node_group.node()
    corrupt_server = corrupt_peer(ref)
    path = node_group.store.path_of(ref.md5)
    assert path is not None
    node.cache.ensure([ref])
    shared = node.cache.shared(ref.md5)
    assert shared is not None
    assert shared.path.read_bytes() == path.read_bytes()
    assert 0 < corrupt_server.bytes_sent <= 4 * BLOCK_BYTES, "whoever lied is not asked again"
    lied, other = corrupt_server.bytes_sent, node_group.archive(LARGE)
    node_group.record("n9", f"http://127.0.0.1:{corrupt_server.port}", other.md5)
    node.cache.ensure([other])
    assert corrupt_server.bytes_sent == lied, "nor for another archive"


def test_a_node_that_hangs_costs_a_moment_and_no_more(node_group: NodeGroup) -> None:
    ref, node, silent = node_group.archive(LARGE), node_group.node(), SilentPeer()
    node_group.record("n9", silent.url, ref.md5)
    began = time.monotonic()
    assert len(fetched(node, ref)) == LARGE
    assert silent.called.is_set()
    assert time.monotonic() - began < 5
    silent.close()


def test_a_node_that_is_gone_costs_a_moment_and_no_more(node_group: NodeGroup) -> None:
    ref, node = node_group.archive(LARGE), node_group.node()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    node_group.record("n9", f"http://127.0.0.1:{port}", ref.md5)
    assert len(fetched(node, ref)) == LARGE


def test_a_node_that_says_it_has_everything_and_has_nothing_does_no_harm(node_group: NodeGroup) -> None:
    """Given a node with an empty file and a full list, when its piece is asked for, then it is had from elsewhere."""
    ref, node = node_group.archive(LARGE), node_group.node()
    nothing = SharedArchive(path=Path("/no/such/file"), size=ref.size, piece_bytes=BLOCK_BYTES, pieces=all_of(64))
    server = ArchiveServer(lambda _: nothing, TOKEN, at_once=8).bind("127.0.0.1", 0)
    server.start()
    node_group.record("n9", f"http://127.0.0.1:{server.port}", ref.md5)
    assert len(fetched(node, ref)) == LARGE
    server.stop()


class Stopping:
    """Says "stop" once the fetch is under way."""

    def __init__(self) -> None:
        self.event, self.at = threading.Event(), 0.0

    def stop(self) -> None:
        self.at = time.monotonic()
        self.event.set()


def test_a_fetch_stops_within_a_second_whatever_its_sources_do(node_group: NodeGroup, tmp_path: Path) -> None:
    """Given sources that never answer, when the attempt is stopped, then the fetch is over and left nothing."""
    ref, node = node_group.archive(LARGE), node_group.node()
    silent, stopping = SilentPeer(), Stopping()
    node_group.record("n9", silent.url, ref.md5)
    node_group.archives.found = lambda _: None
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(node.cache.ensure, [ref], stopping.event.is_set)
        assert silent.called.wait(10)
        stopping.stop()
        with pytest.raises(AttemptDropped):
            fetching.result(10)
        assert time.monotonic() - stopping.at < STOPS_WITHIN_S
    assert not any((tmp_path / "n1").iterdir())
    silent.close()


def test_a_fetch_to_which_nothing_comes_is_given_up_as_silence(node_group: NodeGroup) -> None:
    ref, node = node_group.archive(LARGE), node_group.node(stalled_after_s=0.5)
    node_group.archives.found = lambda _: None
    with pytest.raises(CoordinatorUnreachable):
        node.cache.ensure([ref])


def test_an_archive_the_coordinator_does_not_have_is_missing(node_group: NodeGroup) -> None:
    with pytest.raises(ArchiveMissing):
        node_group.node().cache.ensure([ArchiveRef(md5="0" * 32, size=5)])


def test_an_archive_of_another_size_is_a_bad_one(node_group: NodeGroup) -> None:
    ref = node_group.archive(1000)
    with pytest.raises(BadArchive):
        node_group.node().cache.ensure([replace(ref, size=5)])


def test_an_archive_that_is_broken_at_the_coordinator_is_a_bad_one(node_group: NodeGroup) -> None:
    ref, node = node_group.archive(LARGE), node_group.node()
    path = node_group.store.path_of(ref.md5)
    assert path is not None
    path.write_bytes(bytes(ref.size))
    with pytest.raises(BadArchive):
        node.cache.ensure([ref])


def test_pieces_that_are_right_and_a_whole_that_is_not_are_tried_again_and_given_up(
    node_group: NodeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, node = node_group.archive(1000), node_group.node()
    monkeypatch.setattr("render_tasks.archives.partial_archive.PartialArchive.md5", lambda *_: "f" * 32)
    with pytest.raises(BadArchive):
        node.cache.ensure([ref])
    assert len(node_group.archives.asked) == TRIES


def test_a_coordinator_that_is_started_anew_meanwhile_is_waited_for(
    node_group: NodeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a fetch under way, when the coordinator's server is away for a moment, then it goes on where it was."""
    ref, node = node_group.archive(LARGE), node_group.node()
    found, away = node_group.archives.found, threading.Semaphore(0)

    def soon(md5: str) -> SharedArchive | None:
        if len(node_group.archives.asked) > 8:
            away.release()
            return None
        return found(md5)

    node_group.archives.found = soon
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(fetched, node, ref)
        assert away.acquire(timeout=10)
        node_group.archives.found = found
        assert len(fetching.result(20)) == LARGE
    assert node_group.coordinator.bytes_sent == ref.size, "what had come was kept"
