"""Archives: fetched once, verified, within a quota."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from coordinator.archives.errors import ArchiveMismatch, BadMd5
from coordinator.archives.store import DOWNLOAD_TRIES, ArchiveStore
from sheepfold.contract.orders import ArchiveRef
from sheepfold.errors import DiskFull

GOOD = b"archive" * 1000


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def sends(*contents: bytes) -> Callable[[BinaryIO], None]:
    """A server that sends these, one a download, and complains about one too many."""
    rest = list(contents)

    def fetch(target: BinaryIO) -> None:
        target.write(rest.pop(0))

    return fetch


def never(_: BinaryIO) -> None:
    raise AssertionError("nothing had to be fetched")


def store_in(folder: Path, **changes: object) -> ArchiveStore:
    values: dict = {"quota_bytes": 10**9, "reserve_bytes": 0} | changes
    return ArchiveStore(folder / "archives", **values).open()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "archives").iterdir())


def test_an_archive_is_fetched_once_and_then_held(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    md5 = md5_of(GOOD)
    assert store.path_of(md5) is None
    assert store.ensure(md5, sends(GOOD)) == ArchiveRef(md5=md5, size=len(GOOD))
    assert store.ensure(md5, never) == ArchiveRef(md5=md5, size=len(GOOD))
    path = store.path_of(md5)
    assert path is not None
    assert path.read_bytes() == GOOD
    assert store.held() == [md5]


def test_an_archive_survives_a_restart_and_what_a_crash_left_does_not(tmp_path: Path) -> None:
    store_in(tmp_path).ensure(md5_of(GOOD), sends(GOOD))
    (tmp_path / "archives" / ".incoming-1").write_bytes(b"half")
    assert store_in(tmp_path).ensure(md5_of(GOOD), never).size == len(GOOD)
    assert names_in(tmp_path) == [md5_of(GOOD)]


def test_a_damaged_download_is_fetched_again(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    assert store.ensure(md5_of(GOOD), sends(GOOD[:-1], GOOD)).size == len(GOOD)


def test_an_archive_that_never_has_its_sum_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    with pytest.raises(ArchiveMismatch) as caught:
        store.ensure(md5_of(GOOD), sends(*[b"rubbish"] * DOWNLOAD_TRIES))
    assert (caught.value.md5, caught.value.got) == (md5_of(GOOD), md5_of(b"rubbish"))
    assert names_in(tmp_path) == []
    assert store.ensure(md5_of(GOOD), sends(GOOD)).size == len(GOOD), "it may be asked for again"


def test_a_download_that_breaks_off_may_begin_again_in_the_same_file(tmp_path: Path) -> None:
    def resumes(target: BinaryIO) -> None:
        target.write(b"half a")
        target.seek(0)
        target.truncate()
        target.write(GOOD)

    store = store_in(tmp_path)
    assert store.ensure(md5_of(GOOD), resumes).size == len(GOOD)
    assert (tmp_path / "archives" / md5_of(GOOD)).read_bytes() == GOOD


def test_a_server_that_falls_silent_is_the_callers_error_and_leaves_nothing(tmp_path: Path) -> None:
    def silent(target: BinaryIO) -> None:
        target.write(b"half")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        store_in(tmp_path).ensure(md5_of(GOOD), silent)
    assert names_in(tmp_path) == []


def test_threads_that_want_the_same_archive_share_one_download(tmp_path: Path) -> None:
    store, asked, go_on = store_in(tmp_path), threading.Semaphore(0), threading.Event()
    downloads: list[int] = []

    def slow(target: BinaryIO) -> None:
        downloads.append(1)
        asked.release()
        assert go_on.wait(10)
        target.write(GOOD)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(store.ensure, md5_of(GOOD), slow)
        assert asked.acquire(timeout=10)
        others = [pool.submit(store.ensure, md5_of(GOOD), slow) for _ in range(7)]
        other_archive = store.ensure(md5_of(b"other"), sends(b"other"))
        go_on.set()
        assert {future.result(10) for future in (first, *others)} == {ArchiveRef(md5=md5_of(GOOD), size=len(GOOD))}
    assert other_archive.size == 5
    assert len(downloads) == 1


def test_threads_that_wait_for_a_failing_download_get_its_error(tmp_path: Path) -> None:
    store, asked, go_on = store_in(tmp_path), threading.Event(), threading.Event()

    def fails(_: BinaryIO) -> None:
        asked.set()
        assert go_on.wait(10)
        raise ConnectionError("gone")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.ensure, md5_of(GOOD), fails)
        assert asked.wait(10)
        second = pool.submit(store.ensure, md5_of(GOOD), fails)
        go_on.set()
        assert isinstance(first.exception(10), ConnectionError)
        assert isinstance(second.exception(10), ConnectionError)
    assert store.ensure(md5_of(GOOD), sends(GOOD)).size == len(GOOD)


def test_over_the_quota_the_longest_unused_go_first(tmp_path: Path) -> None:
    store = store_in(tmp_path, quota_bytes=25)
    old, middle, new = (bytes([letter]) * 10 for letter in b"abc")
    for content in (old, middle):
        store.ensure(md5_of(content), sends(content))
    assert store.path_of(md5_of(old))
    store.ensure(md5_of(new), sends(new))
    assert store.held() == sorted([md5_of(old), md5_of(new)])
    assert names_in(tmp_path) == store.held()


def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    old, new = b"a" * 10, b"b" * 10
    store = store_in(tmp_path)
    for age, content in ((100, old), (50, new)):
        store.ensure(md5_of(content), sends(content))
        os.utime(tmp_path / "archives" / md5_of(content), (1e9 - age, 1e9 - age))
    store_in(tmp_path, quota_bytes=15).tidy()
    assert names_in(tmp_path) == [md5_of(new)]


def test_what_a_lease_needs_stays_whatever_the_quota(tmp_path: Path) -> None:
    needed, other = b"a" * 10, b"b" * 10
    store = store_in(tmp_path, quota_bytes=5, pinned=lambda: {md5_of(needed)})
    store.ensure(md5_of(needed), sends(needed))
    store.ensure(md5_of(other), sends(other))
    assert store.path_of(md5_of(other)), "whoever asked for it gets to use it"
    store.tidy()
    assert store.held() == [md5_of(needed)]


def test_a_deleted_archive_is_gone_at_once_or_when_no_lease_needs_it(tmp_path: Path) -> None:
    pinned = {md5_of(GOOD)}
    store = store_in(tmp_path, pinned=lambda: pinned)
    store.ensure(md5_of(GOOD), sends(GOOD))
    store.ensure(md5_of(b"x"), sends(b"x"))
    store.delete(md5_of(b"x"))
    store.delete(md5_of(GOOD))
    store.delete(md5_of(b"never held"))
    assert names_in(tmp_path) == [md5_of(GOOD)]
    assert store.held() == [], "the server hears that we no longer have it"
    pinned.clear()
    store.tidy()
    assert names_in(tmp_path) == []


def test_an_archive_offered_again_is_no_longer_to_be_dropped(tmp_path: Path) -> None:
    pinned = {md5_of(GOOD)}
    store = store_in(tmp_path, pinned=lambda: pinned)
    store.ensure(md5_of(GOOD), sends(GOOD))
    store.delete(md5_of(GOOD))
    store.ensure(md5_of(GOOD), never)
    pinned.clear()
    store.tidy()
    assert store.held() == [md5_of(GOOD)]


def test_a_full_disk_costs_unused_archives_first_and_is_said_then(tmp_path: Path) -> None:
    store_in(tmp_path).ensure(md5_of(GOOD), sends(GOOD))
    with pytest.raises(DiskFull):
        store_in(tmp_path, reserve_bytes=2**62).ensure(md5_of(b"x"), sends(b"x"))
    assert names_in(tmp_path) == []


def test_an_archive_somebody_removed_by_hand_is_fetched_again(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.ensure(md5_of(GOOD), sends(GOOD))
    (tmp_path / "archives" / md5_of(GOOD)).unlink()
    assert store.path_of(md5_of(GOOD)) is None
    assert store.ensure(md5_of(GOOD), sends(GOOD)).size == len(GOOD)


@pytest.mark.parametrize("hostile", ["", "../../etc/passwd", "a" * 31, "a" * 33, "g" * 32, "a" * 32 + "\n", "A/" * 16])
def test_a_name_that_is_no_md5_is_refused(tmp_path: Path, hostile: str) -> None:
    store = store_in(tmp_path)
    with pytest.raises(BadMd5):
        store.ensure(hostile, never)
    with pytest.raises(BadMd5):
        store.path_of(hostile)
    with pytest.raises(BadMd5):
        store.delete(hostile)


def test_upper_case_is_the_same_archive(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.ensure(md5_of(GOOD).upper(), sends(GOOD))
    assert store.held() == [md5_of(GOOD)]
