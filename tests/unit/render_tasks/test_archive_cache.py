"""The node's archives: whole or not there, fetched once, thrown out only when nobody uses them."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from render_tasks.archives import TRIES, ArchiveCache
from render_tasks.contract import ArchiveRef
from render_tasks.errors import AttemptDropped, BadArchive, BadOrder, DepotSilent, DiskFull


class Source:
    """A depot that counts."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.fetches: list[str] = []
        self.instead: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()

    def zip(self, size: int, name: str = "file") -> ArchiveRef:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, os.urandom(size))
        content = buffer.getvalue()
        ref = ArchiveRef(md5=hashlib.md5(content).hexdigest(), size=len(content))
        self.contents[ref.md5] = content
        return ref

    def fetch(self, ref: ArchiveRef, target: BinaryIO, stopped: Callable[[], bool]) -> None:
        self.fetches.append(ref.md5)
        while not self.gate.wait(0.01):
            if stopped():
                raise AttemptDropped("stopped")
        target.write(self.instead.pop(0) if self.instead else self.contents[ref.md5])


@pytest.fixture
def source() -> Source:
    return Source()


def cache_in(folder: Path, source: Source, quota: int = 10**9, free: int = 10**12) -> ArchiveCache:
    return ArchiveCache(folder, source.fetch, quota_bytes=quota, free_bytes=lambda _: free)


def test_an_archive_is_fetched_once_and_kept(tmp_path: Path, source: Source) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(100)
    assert cache.ensure(ref) == cache.ensure(ref) == tmp_path / ref.md5
    assert (tmp_path / ref.md5 / "file").stat().st_size == 100
    assert source.fetches == [ref.md5]
    assert cache.held() == cache_in(tmp_path, source).held() == (ref.md5,)
    assert [path.name for path in tmp_path.iterdir()] == [ref.md5]


def test_slots_that_need_the_same_archive_fetch_it_once(tmp_path: Path, source: Source) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(100)
    source.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(cache.ensure, ref) for _ in range(8)]
        source.gate.set()
        assert {one.result() for one in waiting} == {tmp_path / ref.md5}
    assert len(source.fetches) == 1


def test_a_slot_that_waits_for_anothers_fetch_can_be_stopped(tmp_path: Path, source: Source) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(100)
    source.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.ensure, ref)
        while not source.fetches:
            pass
        with pytest.raises(AttemptDropped):
            cache.ensure(ref, lambda: True)
        source.gate.set()
        first.result()


def test_a_wrong_md5_is_fetched_again_and_given_up_in_the_end(tmp_path: Path, source: Source) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(100)
    source.instead = [b"half", b"rubbish"]
    cache.ensure(ref)
    assert len(source.fetches) == 3
    other = source.zip(50)
    source.instead = [b"rubbish"] * TRIES
    with pytest.raises(BadArchive):
        cache.ensure(other)
    assert cache.held() == (ref.md5,)
    assert [path.name for path in tmp_path.iterdir()] == [ref.md5]


def test_a_broken_download_leaves_nothing_behind(tmp_path: Path, source: Source) -> None:
    def cut_off(ref: ArchiveRef, target: BinaryIO, stopped: Callable[[], bool]) -> None:
        target.write(b"half")
        raise DepotSilent("fetch", "cut off")

    cache = ArchiveCache(tmp_path, cut_off, quota_bytes=10**9)
    with pytest.raises(DepotSilent):
        cache.ensure(source.zip(100))
    assert not any(tmp_path.iterdir())


def test_what_a_killed_worker_left_is_cleared_away(tmp_path: Path, source: Source) -> None:
    (tmp_path / ".fetch-abc" / "content").mkdir(parents=True)
    (tmp_path / ".gone-abc").mkdir()
    cache_in(tmp_path, source)
    assert not any(tmp_path.iterdir())


def test_the_longest_unused_archive_makes_room_but_never_one_in_use(tmp_path: Path, source: Source) -> None:
    cache = cache_in(tmp_path, source, quota=2500)
    old, used, new = source.zip(1000), source.zip(1000), source.zip(1000)
    with cache.using([used]):
        cache.ensure(used)
        cache.ensure(old)
        os.utime(tmp_path / used.md5, (1, 1))
        os.utime(tmp_path / old.md5, (2, 2))
        cache.ensure(new)
        assert set(cache.held()) == {used.md5, new.md5}
    with cache.using([new, used, old]):
        cache.ensure(old)
        assert len(cache.held()) == 3  # over the quota, and all of it needed
    assert len(cache.held()) == 2


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path: Path, source: Source) -> None:
    cache = cache_in(tmp_path, source, free=1000)
    with pytest.raises(DiskFull):
        cache.ensure(source.zip(100))
    assert not source.fetches


def test_a_disk_that_fills_up_on_the_way_is_told_as_such(tmp_path: Path, source: Source) -> None:
    def full(ref: ArchiveRef, target: BinaryIO, stopped: Callable[[], bool]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFull):
        ArchiveCache(tmp_path, full, quota_bytes=10**9).ensure(source.zip(100))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("md5", ["", "..", "../" * 10 + "etc", "A" * 32, "0" * 31, "0" * 33, "g" * 32])
def test_a_name_that_is_no_md5_never_becomes_a_path(tmp_path: Path, source: Source, md5: str) -> None:
    with pytest.raises(BadOrder):
        cache_in(tmp_path, source).ensure(ArchiveRef(md5=md5, size=1))
    assert not source.fetches
