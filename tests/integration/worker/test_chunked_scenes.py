"""A node renders scenes that come in parts and scenes that are locked, and nobody reads the password anywhere."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio
import psutil
import pytest

from coordinator.broker.errors import NoRedis
from coordinator.broker.redis_discovery import find_redis
from sheepfold.contract.api_messages import FailureKind
from sheepfold.contract.orders import ArchiveRef, scene_key
from sheepfold.sharing.pieces import BLOCK_BYTES
from tests.support.nodes.node_group import NodeGroup
from tests.support.nodes.null_renderer import packed, renderer_archive
from tests.support.nodes.worker_harness import WorkerHarness, wait_for
from tests.support.wire.locked_zips import locked_with_aes, locked_with_zipcrypto

#: Enough pieces in a part for everybody to have something to hand on.
PART_BYTES = 20 * BLOCK_BYTES
PASSWORD = "correct horse battery"
LOCKS = {"zipcrypto": locked_with_zipcrypto, "aes": locked_with_aes}


def cut_unequally(content: bytes, count: int) -> list[bytes]:
    """The content in so many parts, no two of one length."""
    chance = random.Random(3)
    cuts = sorted(chance.sample(range(1, len(content)), count - 1))
    return [content[start:end] for start, end in pairwise((0, *cuts, len(content)))]


def ref_of(content: bytes) -> ArchiveRef:
    return ArchiveRef(md5=hashlib.md5(content).hexdigest(), size=len(content))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[WorkerHarness]:
    try:
        find_redis()
    except NoRedis as error:
        pytest.skip(str(error))
    with contextlib.closing(WorkerHarness(tmp_path)) as node:
        yield node.start().until_ready()


def scene_in_parts(node: WorkerHarness, content: bytes, count: int) -> tuple[ArchiveRef, ...]:
    """The coordinator has the parts; what an order says of them."""
    parts = cut_unequally(content, count)
    node.coordinator.archives |= {ref_of(part).md5: part for part in parts}
    return tuple(map(ref_of, parts))


def locked_order(node: WorkerHarness, frame: str, password: str, **places: Any) -> str:
    """The lease of an order whose scene is locked; the coordinator knows the password before the order is sent."""
    lease_id = hashlib.md5(f"{frame} {password} {places}".encode()).hexdigest()
    node.coordinator.passwords[lease_id] = password
    return node.order(frame, lease_id=lease_id, scene_locked=True, **places).lease_id


def in_redis(node: WorkerHarness) -> bytes:
    """Everything Redis holds."""
    keys = node.redis.client.keys("*")
    return b"\n".join([*keys, *(node.redis.client.dump(key) or b"" for key in keys)])


def command_lines() -> str:
    """What every process of this machine shows, its environment included where we may read it."""
    texts = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            texts += [*process.cmdline(), *process.environ().values()]
    return "\n".join(texts)


def pixels(path: Path, picture: bytes) -> np.ndarray:
    """Of a picture, without what is written into it besides."""
    path.write_bytes(picture)
    return oiio.ImageBuf(str(path)).get_pixels(oiio.FLOAT)


def all_files_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.blender
@pytest.mark.redis
@pytest.mark.parametrize("lock", [None, "zipcrypto", "aes"])
def test_a_scene_in_parts_renders_as_it_does_whole_lease_piece_and_its_password_is_nowhere(
    node: WorkerHarness, blender: str, demo_scene: Path, lock: str | None
) -> None:
    files = {"shots/demo.blend": demo_scene.read_bytes(), "notes.txt": b"none"}
    renderer = packed({"rend.exe": f'#!/bin/sh\nexec "{blender}" "$@"\n'.encode()})
    whole = packed(files)
    node.coordinator.archives |= {ref.md5: content for ref, content in (renderer, whole)}
    places = {"renderer_archive": renderer[0], "scene_path": "shots/demo.blend", "script": "import bpy\n"}
    whole_lease = node.order("3", scene_archives=(whole[0],), **places).lease_id
    parts = scene_in_parts(node, LOCKS[lock](files, PASSWORD) if lock else whole[1], 5)
    parts_lease = locked_order(node, "3", PASSWORD if lock else "", scene_archives=parts, **places)
    everywhere = []
    while not {whole_lease, parts_lease} <= {*node.coordinator.frames, *node.coordinator.failures}:
        everywhere += [in_redis(node), command_lines().encode()]
        time.sleep(0.2)
    assert not node.coordinator.failures
    of_whole, of_parts = (
        pixels(node.folder / "picture.png", node.coordinator.frames[lease]) for lease in (whole_lease, parts_lease)
    )
    assert of_whole.std() > 0
    assert (of_whole == of_parts).all()
    key = scene_key([ref.md5 for ref in parts])
    wait_for(lambda: key in node.presence().archives and key in node.presence().warm)
    everywhere += [in_redis(node), command_lines().encode(), all_files_of(node.folder)]
    assert not [where for where in everywhere if PASSWORD.encode() in where]
    assert len(everywhere) > 3, "it was looked for while frames were rendered"


@pytest.mark.redis
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize(("password", "reason"), [("", "gave no password"), ("wrong horse", "does not open it")])
def test_a_password_that_does_not_open_the_scene_is_the_scenes_trouble(
    node: WorkerHarness, lock: str, password: str, reason: str
) -> None:
    parts = scene_in_parts(node, LOCKS[lock]({"shots/scene.blend": b"BLENDER" * 100}, PASSWORD), 3)
    lease = locked_order(node, "1", password, scene_archives=parts)
    report = wait_for(lambda: node.coordinator.failures.get(lease), 30)
    assert report.kind is FailureKind.BAD_ARCHIVE
    assert reason in report.reason
    assert "wrong horse" not in report.reason + report.log + node.log.read_text()
    again = locked_order(node, "2", PASSWORD, scene_archives=parts)
    wait_for(lambda: again in node.coordinator.frames, 30, "the right password opens it")
    assert sorted(node.coordinator.fetched) == sorted({ref.md5 for ref in (*parts, renderer_archive()[0])}), (
        "each part once"
    )


@pytest.mark.redis
def test_the_password_opens_no_renderer(node: WorkerHarness) -> None:
    program = zipfile.ZipFile(io.BytesIO(renderer_archive()[1])).read("rend.exe")
    renderer = locked_with_zipcrypto({"rend.exe": program}, PASSWORD)
    node.coordinator.archives[ref_of(renderer).md5] = renderer
    lease = locked_order(node, "1", PASSWORD, renderer_archive=ref_of(renderer))
    report = wait_for(lambda: node.coordinator.failures.get(lease), 30)
    assert report.kind is FailureKind.BAD_ARCHIVE


def test_nodes_hand_parts_on_to_each_other(tmp_path: Path) -> None:
    """Given a coordinator that sends piece by piece, as over a narrow cable, when five nodes want one scene."""
    texture = random.Random(8).randbytes(2 * PART_BYTES)
    versions = []
    for number in range(2):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            # Without the time of day, by which they would differ.
            archive.writestr(zipfile.ZipInfo("texture"), texture)
            archive.writestr(zipfile.ZipInfo("scene.blend"), b"version %d" % number)
        content = buffer.getvalue()
        versions.append([content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)])
    assert versions[0][:2] == versions[1][:2]
    with contextlib.closing(NodeGroup(tmp_path, coordinator_at_once=1)) as lan:
        scenes = [[lan.has(part) for part in parts] for parts in versions]
        nodes = [lan.node() for _ in range(5)]
        with ThreadPoolExecutor(5) as pool:
            folders = list(pool.map(lambda node: node.cache.ensure(scenes[0]), nodes))
        assert {(folder / "texture").read_bytes() for folder in folders} == {texture}
        sent = lan.coordinator.bytes_sent
        assert sent < 2.5 * len(texture), "five nodes, and most of it from each other"
        newer = nodes[0].cache.ensure(scenes[1])
        assert (newer / "scene.blend").read_bytes() == b"version 1"
        assert lan.coordinator.bytes_sent - sent < 10_000, "only what changed"
