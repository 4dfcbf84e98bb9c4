"""A worker starts whatever a frame of its earlier life left in its folder."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from render_tasks.archives.cache_dir import CacheDir
from render_tasks.orders.outbox import Outbox
from render_tasks.untrusted.removal import remove
from render_tasks.work_dir import WorkDir
from tests.unit.render_tasks.untrusted.test_removal import make_nested_folders, shut_in_mode_zero


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    # pytest itself deletes by recursion.
    remove(tmp_path)


def open_work_dir(path: Path) -> str:
    """Opens all that a worker opens at its start; its node id."""
    work_dir = WorkDir(path)
    try:
        Outbox(work_dir.outbox).parcels()
        CacheDir(work_dir.archives, quota_bytes=10**9, free_bytes=lambda _: 10**12, on_evict=lambda _: None)
        assert not any(work_dir.scratch.iterdir())
        return work_dir.node_id
    finally:
        work_dir.close()


def test_deep_folders_and_folders_of_mode_zero_do_not_end_a_start(tmp_path: Path) -> None:
    node_id = open_work_dir(tmp_path)
    for name in ("scratch/1.1", "outbox/x.1", "outbox/.new-x", "archives/.fetch-x", f"archives/{'a' * 32}"):
        (tmp_path / name).mkdir()
        make_nested_folders(tmp_path / name)
        shut_in_mode_zero(tmp_path / name / "shut")
    assert open_work_dir(tmp_path) == node_id


@pytest.mark.parametrize("name", ["scratch", "outbox", "archives", "lock", "node-id", "node-secret"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_link_or_a_pipe_in_place_of_what_is_ours_does_not_end_a_start(
    tmp_path: Path, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = tmp_path / "Pictures"
    (pictures / "deep").mkdir(parents=True)
    (pictures / "mine.png").write_bytes(b"the owner's")
    open_work_dir(tmp_path / "worker")
    place = tmp_path / "worker" / name
    place.rename(tmp_path / "moved")
    if kind == "link":
        place.symlink_to(pictures)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    uuid.UUID(open_work_dir(tmp_path / "worker"))
    uuid.UUID(open_work_dir(tmp_path / "worker"))
    assert sorted(path.name for path in pictures.iterdir()) == ["deep", "mine.png"]
    assert caplog.text.count("which may be deleted") <= 1, "the operator is told once"


def test_what_is_no_frame_in_the_outbox_goes_and_nothing_is_read_through_it(tmp_path: Path) -> None:
    open_work_dir(tmp_path / "worker")
    outbox, secret = tmp_path / "worker" / "outbox", tmp_path / "secret"
    secret.write_text("farm token")
    label = '{"lease_id":"%s","attempt":1,"job_name":"j","frame":"1","report":{"name":"%s","md5":"0","render_s":1,'
    label += '"memory_kb":1,"cores":1}}'
    for lease, name in (("a", "../../../secret"), ("b", "frame_0001.png"), ("c", "pipe"), ("d", "x")):
        (outbox / f"{lease}.1").mkdir()
        (outbox / f"{lease}.1" / "delivery.json").write_text(label % (lease if lease != "d" else "../d", name))
    (outbox / "b.1" / "frame_0001.png").symlink_to(secret)
    os.mkfifo(outbox / "c.1" / "pipe")
    (outbox / "e.1").mkdir()
    os.mkfifo(outbox / "e.1" / "delivery.json")
    (outbox / "f.1").symlink_to(tmp_path)
    assert Outbox(outbox).parcels() == []
    assert not any(outbox.iterdir())
    assert secret.read_text() == "farm token"


def test_a_folder_has_a_secret_of_its_own_that_nobody_else_may_read(tmp_path: Path) -> None:
    secrets = []
    for name in ("first", "first", "second"):
        work_dir = WorkDir(tmp_path / name)
        secrets.append(work_dir.node_secret)
        work_dir.close()
    assert secrets[0] == secrets[1] != secrets[2]
    assert re.fullmatch("[0-9a-f]{64}", secrets[0])
    assert (tmp_path / "first" / "node-secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "first" / "node-secret").write_text("damaged")
    work_dir = WorkDir(tmp_path / "first")
    assert re.fullmatch("[0-9a-f]{64}", work_dir.node_secret)
    work_dir.close()
