"""The node's archives: whole or not there, fetched once, thrown out only when nobody uses them."""

from __future__ import annotations

import errno
import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from render_tasks.archives.cache import FETCHES_AT_ONCE, TRIES
from render_tasks.errors import AttemptDropped, BadArchive, BadOrder, CacheDiskFull, CoordinatorUnreachable
from sheepfold.contract.orders import ArchiveRef
from tests.support.nodes.archive_cache_harness import LARGE, CountingSource, cache_in, names_in


def test_an_archive_is_fetched_once_and_kept(tmp_path: Path, source: CountingSource) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(100)
    assert cache.ensure([ref]) == cache.ensure([ref]) == tmp_path / ref.md5
    assert (tmp_path / ref.md5 / "file").stat().st_size == 100
    assert source.fetches == [ref.md5]
    assert cache.held() == cache_in(tmp_path, source).held() == (ref.md5,)
    assert [path.name for path in tmp_path.iterdir()] == [ref.md5]


def test_slots_that_need_the_same_archive_fetch_it_once(tmp_path: Path, source: CountingSource) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(100)
    source.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(cache.ensure, [ref]) for _ in range(8)]
        source.gate.set()
        assert {future.result() for future in waiting} == {tmp_path / ref.md5}
    assert len(source.fetches) == 1


def test_a_slot_that_waits_for_anothers_fetch_can_be_stopped(tmp_path: Path, source: CountingSource) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(100)
    source.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.ensure, [ref])
        assert source.filling.acquire(timeout=10)
        with pytest.raises(AttemptDropped):
            cache.ensure([ref], lambda: True)
        source.gate.set()
        first.result()


def test_a_wrong_md5_is_fetched_again_and_given_up_in_the_end(tmp_path: Path, source: CountingSource) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(100)
    source.instead = [b"half", b"rubbish"]
    cache.ensure([ref])
    assert len(source.fetches) == 3
    other = source.zip(50)
    source.instead = [b"rubbish"] * TRIES
    with pytest.raises(BadArchive):
        cache.ensure([other])
    assert cache.held() == (ref.md5,)
    assert [path.name for path in tmp_path.iterdir()] == [ref.md5]


def test_a_broken_download_leaves_nothing_behind(tmp_path: Path, source: CountingSource) -> None:
    source.error = CoordinatorUnreachable("fetch", "cut off")
    with pytest.raises(CoordinatorUnreachable):
        cache_in(tmp_path, source).ensure([source.zip(100)])
    assert not any(tmp_path.iterdir())


def test_what_a_killed_worker_left_is_cleared_away(tmp_path: Path, source: CountingSource) -> None:
    (tmp_path / ".fetch-abc" / "content").mkdir(parents=True)
    (tmp_path / ".gone-abc").mkdir()
    cache_in(tmp_path, source)
    assert not any(tmp_path.iterdir())


def test_the_longest_unused_archive_makes_room_but_never_one_in_use(tmp_path: Path, source: CountingSource) -> None:
    cache = cache_in(tmp_path, source, quota=2500)
    old, used, new = source.zip(1000), source.zip(1000), source.zip(1000)
    with cache.using([used]):
        cache.ensure([used])
        cache.ensure([old])
        os.utime(tmp_path / used.md5, (1, 1))
        os.utime(tmp_path / old.md5, (2, 2))
        cache.ensure([new])
        assert set(cache.held()) == {used.md5, new.md5}
    with cache.using([new], [used], [old]):
        cache.ensure([old])
        assert len(cache.held()) == 3  # over the quota, and all of it needed
    assert len(cache.held()) == 2


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path: Path, source: CountingSource) -> None:
    cache = cache_in(tmp_path, source, free=1000)
    with pytest.raises(CacheDiskFull):
        cache.ensure([source.zip(100)])
    assert not source.fetches


def test_an_archive_over_the_quota_is_refused_before_it_is_unpacked(tmp_path: Path, source: CountingSource) -> None:
    cache, kept = cache_in(tmp_path, source, quota=20_000), source.zip(1000)
    cache.ensure([kept])
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(5_000_000))
    with pytest.raises(BadArchive, match="SHEEPFOLD_CACHE_GB"):
        cache.ensure([source.has(bomb.getvalue())])
    assert names_in(tmp_path) == {kept.md5}, "nothing was evicted for it"


def test_a_disk_that_fills_up_on_the_way_is_told_as_such(tmp_path: Path, source: CountingSource) -> None:
    source.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(CacheDiskFull):
        cache_in(tmp_path, source).ensure([source.zip(100)])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("md5", ["", "..", "../" * 10 + "etc", "A" * 32, "0" * 31, "0" * 33, "g" * 32])
def test_a_name_that_is_no_md5_never_becomes_a_path(tmp_path: Path, source: CountingSource, md5: str) -> None:
    with pytest.raises(BadOrder):
        cache_in(tmp_path, source).ensure([ArchiveRef(md5=md5, size=1)])
    assert not source.fetches


def test_an_archive_of_several_pieces_is_kept_for_other_nodes_across_restarts(
    tmp_path: Path, source: CountingSource
) -> None:
    cache, large, small = cache_in(tmp_path, source), source.zip(LARGE), source.zip(100)
    cache.ensure([large])
    cache.ensure([small])
    assert names_in(tmp_path) == {large.md5, f"{large.md5}.zip", small.md5}
    for opened in (cache, cache_in(tmp_path, source)):
        assert opened.shares() == (large.md5,)
        shared = opened.shared(large.md5)
        assert shared is not None
        assert shared.path.read_bytes() == source.contents[large.md5]
        assert shared.covers(0, large.size)
        assert opened.shared(small.md5) is None


def test_what_is_still_arriving_is_handed_on_as_far_as_it_is_right(tmp_path: Path, source: CountingSource) -> None:
    cache, ref = cache_in(tmp_path, source), source.zip(LARGE)
    source.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(cache.ensure, [ref])
        assert source.filling.acquire(timeout=10)
        shared = cache.shared(ref.md5)
        assert shared is not None
        assert not shared.covers(0, 1)
        source.gate.set()
        fetching.result(10)


def test_a_node_that_does_not_share_keeps_no_zip_and_hands_nothing_on(tmp_path: Path, source: CountingSource) -> None:
    cache, ref = cache_in(tmp_path, source, share=False), source.zip(LARGE)
    cache.ensure([ref])
    assert names_in(tmp_path) == {ref.md5}
    assert (cache.shares(), cache.shared(ref.md5)) == ((), None)


def test_zips_make_room_before_any_archive_does_and_the_longest_unused_first(
    tmp_path: Path, source: CountingSource
) -> None:
    cache = cache_in(tmp_path, source, quota=5 * LARGE)
    first, second, third = source.zip(LARGE), source.zip(LARGE), source.zip(LARGE)
    cache.ensure([first])
    cache.ensure([second])
    os.utime(tmp_path / f"{second.md5}.zip", (1, 1))
    cache.ensure([third])
    assert set(cache.held()) == {first.md5, second.md5, third.md5}
    assert second.md5 not in cache.shares()


def test_a_zip_is_not_kept_at_the_price_of_another_archive(tmp_path: Path, source: CountingSource) -> None:
    cache = cache_in(tmp_path, source, quota=int(2.5 * LARGE))
    first, second = source.zip(LARGE), source.zip(LARGE)
    cache.ensure([first])
    cache.ensure([second])
    assert set(cache.held()) == {first.md5, second.md5}
    assert cache.shares() == ()


def test_no_more_archives_are_fetched_at_once_than_the_lane_is_wide(tmp_path: Path, source: CountingSource) -> None:
    cache, refs = cache_in(tmp_path, source), [source.zip(100) for _ in range(FETCHES_AT_ONCE + 1)]
    source.gate.clear()
    with ThreadPoolExecutor(len(refs)) as pool:
        fetching = [pool.submit(cache.ensure, [ref]) for ref in refs[:FETCHES_AT_ONCE]]
        for _ in fetching:
            assert source.filling.acquire(timeout=10)
        with pytest.raises(AttemptDropped):
            cache.ensure([refs[-1]], lambda: True)
        assert len(source.fetches) == FETCHES_AT_ONCE
        source.gate.set()
        for future in fetching:
            future.result(10)
        assert cache.ensure([refs[-1]]).is_dir()
