"""Scenes that come in parts, in the node's cache: each part once, unpacked from all of them."""

from __future__ import annotations

import io
import os
import random
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from render_tasks.errors import ArchiveLocked, BadArchive, BadOrder, CoordinatorUnreachable
from sheepfold.contract.orders import ArchiveRef, scene_key
from tests.support.nodes.archive_cache_harness import LARGE, CountingSource, cache_in, names_in
from tests.support.wire.locked_zips import locked_with_aes

TEXTURE = random.Random(8).randbytes(LARGE)


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without the time of day
    return buffer.getvalue()


def parts_of(source: CountingSource, content: bytes, count: int) -> list[ArchiveRef]:
    """The content cut into equal parts, each of which the source has."""
    length = -(-len(content) // count)
    return [source.has(content[at : at + length]) for at in range(0, len(content), length)]


def key_of(refs: list[ArchiveRef]) -> str:
    return scene_key([ref.md5 for ref in refs])


def zip_names(*refs: ArchiveRef) -> set[str]:
    return {f"{ref.md5}.zip" for ref in refs}


def test_a_scene_is_unpacked_from_its_parts_which_stay_as_they_came(tmp_path: Path, source: CountingSource) -> None:
    cache, refs = cache_in(tmp_path, source), parts_of(source, zipped(scene=b"BLENDER", texture=TEXTURE), 3)
    folder = cache.ensure(refs)
    assert folder == tmp_path / key_of(refs)
    assert (folder / "texture").read_bytes() == TEXTURE
    assert source.fetches == [ref.md5 for ref in refs]
    assert names_in(tmp_path) == {folder.name} | zip_names(*refs), "and no file of the whole"
    assert cache.held() == cache_in(tmp_path, source).held() == (folder.name,)
    assert cache.ensure(refs) == folder
    assert len(source.fetches) == 3


def test_parts_are_handed_on_one_by_one(tmp_path: Path, source: CountingSource) -> None:
    cache, refs = cache_in(tmp_path / "a", source), parts_of(source, zipped(texture=TEXTURE * 2), 2)
    cache.ensure(refs)
    assert set(cache.shares()) == {ref.md5 for ref in refs}
    for ref in refs:
        shared = cache.shared(ref.md5)
        assert shared is not None
        assert shared.path.read_bytes() == source.contents[ref.md5]
    selfish = cache_in(tmp_path / "b", source, share=False)
    selfish.ensure(refs)
    assert (selfish.shares(), selfish.shared(refs[0].md5)) == ((), None)


def test_versions_of_a_scene_share_the_parts_that_did_not_change(tmp_path: Path, source: CountingSource) -> None:
    cache = cache_in(tmp_path, source)
    first = parts_of(source, zipped(texture=TEXTURE, scene=b"first one"), 4)
    second = parts_of(source, zipped(texture=TEXTURE, scene=b"other one"), 4)
    assert first[:3] == second[:3]
    assert (cache.ensure(first) / "scene").read_bytes() == b"first one"
    assert (cache.ensure(second) / "scene").read_bytes() == b"other one"
    assert source.fetches == [ref.md5 for ref in (*first, second[3])]


def test_a_part_that_comes_twice_in_a_scene_is_fetched_once(tmp_path: Path, source: CountingSource) -> None:
    content = zipped(a=bytes(2000))
    at = content.index(bytes(2000))
    # A stored run of zeros, cut where its halves are alike.
    refs = [source.has(part) for part in (content[:at], bytes(1000), bytes(1000), content[at + 2000 :])]
    assert (cache_in(tmp_path, source).ensure(refs) / "a").read_bytes() == bytes(2000)
    assert len(source.fetches) == 3


def test_a_single_part_that_is_the_archive_is_an_archive(tmp_path: Path, source: CountingSource) -> None:
    [ref] = parts_of(source, zipped(texture=TEXTURE), 1)
    assert cache_in(tmp_path, source).ensure([ref]) == tmp_path / ref.md5
    assert names_in(tmp_path) == {ref.md5, f"{ref.md5}.zip"}


def test_slots_that_need_the_same_parts_fetch_them_once(tmp_path: Path, source: CountingSource) -> None:
    cache = cache_in(tmp_path, source)
    scenes = [parts_of(source, zipped(texture=TEXTURE, scene=b"version %d" % number), 4) for number in range(3)]
    with ThreadPoolExecutor(9) as pool:
        folders = list(pool.map(cache.ensure, scenes * 3))
    assert {folder.name for folder in folders} == {key_of(refs) for refs in scenes}
    assert sorted(source.fetches) == sorted({ref.md5 for refs in scenes for ref in refs})


def test_parts_go_before_anything_unpacked_but_never_those_still_to_be_unpacked(
    tmp_path: Path, source: CountingSource
) -> None:
    cache = cache_in(tmp_path, source, quota=int(3.5 * LARGE))
    refs, other = parts_of(source, zipped(texture=TEXTURE), 4), source.zip(LARGE)
    with cache.using(refs):
        source.silent_about = {refs[3].md5}
        with pytest.raises(CoordinatorUnreachable):
            cache.ensure(refs)
        cache.ensure([source.zip(LARGE)])
        cache.ensure([other])  # wants all the room there is
        assert zip_names(*refs[:3]) <= names_in(tmp_path), "its lease still needs them"
        source.silent_about.clear()
        cache.ensure(refs)
        assert source.fetches.count(refs[0].md5) == 1
        cache.ensure([source.zip(LARGE)])
        assert key_of(refs) in cache.held()
        assert not zip_names(*refs) & names_in(tmp_path), "unpacked: nobody needs them"


def test_what_nobody_uses_makes_room_the_longest_unused_first(tmp_path: Path, source: CountingSource) -> None:
    cache = cache_in(tmp_path, source, quota=3 * LARGE)
    refs = parts_of(source, zipped(texture=TEXTURE), 2)
    cache.ensure(refs)
    os.utime(tmp_path / key_of(refs), (1, 1))
    cache.ensure([source.zip(LARGE)])
    cache.ensure([source.zip(LARGE)])
    cache.ensure([source.zip(LARGE)])
    assert key_of(refs) not in cache.held()


def test_a_part_that_the_disk_lost_something_of_is_fetched_again(tmp_path: Path, source: CountingSource) -> None:
    refs = parts_of(source, zipped(texture=TEXTURE), 3)
    source.silent_about = {refs[2].md5}
    with pytest.raises(CoordinatorUnreachable):
        cache_in(tmp_path, source).ensure(refs)
    source.silent_about.clear()
    path = tmp_path / f"{refs[0].md5}.zip"
    path.write_bytes(bytes(path.stat().st_size))
    folder = cache_in(tmp_path, source).ensure(refs)  # the worker started anew
    assert (folder / "texture").read_bytes() == TEXTURE
    assert source.fetches == [refs[number].md5 for number in (0, 1, 2, 0, 2)]


def test_parts_that_make_no_zip_leave_nothing_unpacked(tmp_path: Path, source: CountingSource) -> None:
    refs = parts_of(source, zipped(texture=TEXTURE), 3)
    cache = cache_in(tmp_path, source)
    with pytest.raises(BadArchive):
        cache.ensure([refs[2], refs[0], refs[1]])
    assert cache.held() == ()
    assert names_in(tmp_path) == zip_names(*refs)
    assert cache.ensure(refs).is_dir(), "in the right order they do"


def test_a_locked_scene_in_parts_is_opened_with_its_password_alone(tmp_path: Path, source: CountingSource) -> None:
    refs = parts_of(source, locked_with_aes({"texture": TEXTURE}, "opens it"), 3)
    cache = cache_in(tmp_path, source)
    for password in ("", "another"):
        with pytest.raises(ArchiveLocked):
            cache.ensure(refs, password=password)
        assert cache.held() == ()
    assert (cache.ensure(refs, password="opens it") / "texture").read_bytes() == TEXTURE
    assert len(source.fetches) == 3
    assert cache.ensure(refs).is_dir(), "what is unpacked needs no password"


@pytest.mark.parametrize("wrong", ["..", "../" * 10 + "etc", "A" * 32])
def test_a_part_whose_name_is_no_md5_never_becomes_a_path(tmp_path: Path, source: CountingSource, wrong: str) -> None:
    refs = parts_of(source, zipped(texture=TEXTURE), 2)
    with pytest.raises(BadOrder):
        cache_in(tmp_path, source).ensure([refs[0], ArchiveRef(md5=wrong, size=1)])
    with pytest.raises(BadOrder):
        cache_in(tmp_path, source).ensure([])
    assert not source.fetches
