"""Sums of pieces: made while an archive comes in, or once from the disk, and never of a damaged one."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from coordinator.archives.errors import ManifestUnderWay
from coordinator.archives.manifests import MOST_KEPT, ManifestCache, PieceHashes
from coordinator.archives.store import ArchiveStore
from sheepfold.sharing.pieces import BLOCK_BYTES, sum_of

CONTENT = os.urandom(2 * BLOCK_BYTES + 77)
MD5 = hashlib.md5(CONTENT).hexdigest()
SUMS = PieceHashes(
    size=len(CONTENT),
    piece_bytes=BLOCK_BYTES,
    sums=tuple(sum_of(CONTENT[at : at + BLOCK_BYTES]) for at in range(0, len(CONTENT), BLOCK_BYTES)),
)


def store_in(folder: Path) -> ArchiveStore:
    return ArchiveStore(folder, quota_bytes=10**9, reserve_bytes=0).open()


def plans_of(store: ArchiveStore) -> ManifestCache:
    return ManifestCache(store)


def in_chunks(target: BinaryIO) -> None:
    """As a download comes, begun again once."""
    target.write(b"something else")
    target.seek(0)
    target.truncate()
    for at in range(0, len(CONTENT), 65_537):
        target.write(CONTENT[at : at + 65_537])


def test_sums_are_made_while_the_archive_comes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_in(tmp_path)
    plans = plans_of(store)
    monkeypatch.setattr(plans, "_read", lambda *_: pytest.fail("the disk was read"))
    store.ensure(MD5, in_chunks)
    assert plans.of(MD5) == SUMS
    assert store.bytes_fetched == len(CONTENT) + len(b"something else")


def test_after_a_restart_they_are_made_from_the_disk(tmp_path: Path) -> None:
    store_in(tmp_path).ensure(MD5, in_chunks)
    assert plans_of(store_in(tmp_path)).of(MD5) == SUMS


def test_an_archive_that_is_not_here_has_none(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    plans = plans_of(store)
    assert plans.of(MD5) is None
    store.ensure(MD5, in_chunks)
    assert plans.of(MD5)
    store.throw_away(MD5)
    assert plans.of(MD5) is None


def test_an_archive_that_was_damaged_on_the_disk_is_thrown_away_and_fetched_anew(tmp_path: Path) -> None:
    store_in(tmp_path).ensure(MD5, in_chunks)
    with (tmp_path / MD5).open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    store = store_in(tmp_path)
    plans = plans_of(store)
    assert plans.of(MD5) is None
    assert store.held() == []
    store.ensure(MD5, in_chunks)
    assert plans.of(MD5) == SUMS


def test_nodes_that_ask_at_once_share_one_reading_and_wait_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_in(tmp_path).ensure(MD5, in_chunks)
    plans, read, go_on = plans_of(store_in(tmp_path)), threading.Semaphore(0), threading.Event()
    plain = plans._read

    def slow(md5: str, path: Path) -> PieceHashes | None:
        read.release()
        assert go_on.wait(10)
        return plain(md5, path)

    monkeypatch.setattr(plans, "_read", slow)
    monkeypatch.setattr("coordinator.archives.manifests.PLAN_WAIT_S", 0.01)
    with pytest.raises(ManifestUnderWay):
        plans.of(MD5)
    monkeypatch.setattr("coordinator.archives.manifests.PLAN_WAIT_S", 10)
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(plans.of, MD5) for _ in range(4)]
        go_on.set()
        assert [future.result(10) for future in asking] == [SUMS] * 4
    assert read.acquire(blocking=False)
    assert not read.acquire(blocking=False), "it was read once"


def test_only_so_many_sums_are_kept_in_memory(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    contents = [str(number).encode() for number in range(MOST_KEPT + 1)]
    sums = [hashlib.md5(content).hexdigest() for content in contents]
    for md5, content in zip(sums, contents, strict=True):
        store.ensure(md5, lambda target, content=content: target.write(content))
    assert (store.hashes_of(sums[0]), store.hashes_of(sums[-1]) is not None) == (None, True)
    before, plans = plans_of(store), plans_of(store_in(tmp_path))
    assert [before.of(md5) for md5 in sums] == [plans.of(md5) for md5 in sums], "those not kept are made from the disk"
    assert len(plans._made) == MOST_KEPT
