"""A PC looks whether it can take frames at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from render_tasks.archives.cache import ArchiveCache
from render_tasks.archives.cache_dir import SPARE_BYTES
from render_tasks.blender.installed import LocalBlender
from render_tasks.node_health import NodeHealth

MB = 1024**2


class HealthHarness:
    """A work folder on a disk whose room a test decides."""

    def __init__(self, folder: Path) -> None:
        self.free, self.changes, self.folder = 10 * SPARE_BYTES, 0, folder
        self.blender = LocalBlender(ask=lambda _path: "3.4.1")
        cache = ArchiveCache(
            folder / "archives",
            None,  # type: ignore[arg-type]  (nothing is fetched here)
            quota_bytes=10**12,
            free_bytes=lambda _path: self.free,
        )
        self.cache = cache
        (folder / "scratch").mkdir()
        self.health = NodeHealth(
            self.blender, (folder / "scratch", folder / "archives"), cache.require_space, self._changed
        )

    def _changed(self) -> None:
        self.changes += 1

    def look(self) -> str:
        self.health.look_once()
        return self.health.trouble


@pytest.fixture
def harness(tmp_path: Path) -> HealthHarness:
    return HealthHarness(tmp_path)


def test_a_pc_with_room_is_well_and_leaves_nothing_behind(harness: HealthHarness) -> None:
    assert harness.look() == ""
    assert not list((harness.folder / "scratch").iterdir())


def test_a_full_disk_says_what_is_kept_free_what_is_free_and_where(harness: HealthHarness) -> None:
    harness.look()
    harness.free, before = 200 * MB, harness.changes
    assert harness.look() == (
        f"disk full: 256 MB to spare for renders are needed, 200 MB are free in {harness.folder}/archives: "
        "free some there, or give SHEEPFOLD_WORK_DIR another disk"
    )
    harness.look()
    assert harness.changes == before + 1, "it is told once"
    harness.free = 300 * MB
    assert harness.look() == ""
    assert harness.changes == before + 2


def test_archives_that_nobody_uses_make_room_first(tmp_path: Path) -> None:
    unused = tmp_path / "archives" / ("a" * 32)
    unused.mkdir(parents=True)
    harness = HealthHarness(tmp_path)
    harness.cache._dir._free_bytes = lambda _path: 10 * MB if unused.exists() else 10 * SPARE_BYTES
    assert harness.look() == ""
    assert not unused.exists()


@pytest.mark.parametrize(
    ("number", "trouble"),
    [
        (errno.ENOSPC, "disk full: nothing more can be written in"),
        (errno.EDQUOT, "disk full: nothing more can be written in"),
        (errno.EROFS, "folder not usable: /x: Read-only file system: let the worker"),
        (errno.EACCES, "folder not usable: /x: Permission denied: let the worker"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_by_what_the_system_says(
    harness: HealthHarness, monkeypatch: pytest.MonkeyPatch, number: int, trouble: str
) -> None:
    def write(_path: Path, _data: bytes) -> int:
        raise OSError(number, os.strerror(number), "/x")

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_bytes", write)
        assert harness.look().startswith(trouble)
    assert harness.look() == ""


def test_a_folder_that_is_gone_is_trouble_too(harness: HealthHarness) -> None:
    (harness.folder / "scratch").rmdir()
    assert harness.look().startswith("folder not usable: ")


def test_a_missing_blender_is_no_trouble_for_jobs_that_bring_their_own(
    harness: HealthHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness.look()
    monkeypatch.setenv("SHEEPFOLD_BLENDER", "/nowhere/blender")
    before = harness.changes
    assert harness.look() == ""
    assert harness.changes == before + 1
    assert "only jobs that bring their own renderer can come here: SHEEPFOLD_BLENDER: /nowhere" in caplog.text
