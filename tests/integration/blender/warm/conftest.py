"""A pool of real Blenders that stay open, and scenes for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from render_tasks.blender.orphan_guard import OrphanGuard
from tests.support.blender.render_jobs import gone
from tests.support.blender.warm_pool_harness import WarmPoolHarness
from tests.support.scenes.blender_scripts import run_scene_script


@pytest.fixture(scope="module")
def renderer(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A renderer archive that launches the Blender of this PC, unpacked; it notes each start."""
    folder = tmp_path_factory.mktemp("renderer")
    launcher = folder / "rend.exe"
    launcher.write_text(f'#!/bin/sh\necho $$ >> "{folder}/starts"\nexec "{blender}" "$@"\n')
    launcher.chmod(0o755)
    (folder / "starts").touch()
    return folder


@pytest.fixture(scope="module")
def scenes(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    run_scene_script(blender, "warm_scenes.py", folder, timeout=60)
    assert (folder / "heavy.blend").exists()
    return folder


@pytest.fixture
def harness(renderer: Path, scenes: Path, tmp_path: Path, guard: OrphanGuard) -> Iterator[WarmPoolHarness]:
    harness = WarmPoolHarness(renderer, scenes, tmp_path, guard)
    with contextlib.closing(harness.pool):
        yield harness
    assert not list((tmp_path / "warm").glob("*"))
    assert all(map(gone, harness.pids()))
