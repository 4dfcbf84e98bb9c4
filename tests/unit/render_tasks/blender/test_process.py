"""A renderer's folder, what is started in it, and a process that never came to be."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from render_tasks.blender.orphan_guard import OrphanGuard
from render_tasks.blender.process import RendererProcess, binary_of, furnish
from render_tasks.blender.render_job import RenderJob
from render_tasks.errors import AttemptFailed
from sheepfold.contract.api_messages import FailureKind
from tests.support.blender.render_jobs import job


class RecordingGuard:
    """What the guard is told of a render, without a process of its own."""

    def __init__(self) -> None:
        self.over_marks: list[str] = []

    def over(self, mark: str) -> None:
        self.over_marks.append(mark)


@pytest.fixture
def render_job(tmp_path: Path) -> RenderJob:
    (tmp_path / "renderer").mkdir()
    (tmp_path / "renderer" / "rend.exe").touch()
    (tmp_path / "scene.blend").touch()
    return job(tmp_path / "renderer", tmp_path / "scene.blend", tmp_path, "7")


def test_the_binary_to_start_is_the_renderer_archives(render_job: RenderJob) -> None:
    assert binary_of(render_job) == render_job.renderer / "rend.exe"


@pytest.mark.parametrize(("missing", "said"), [("scene", "scene.blend"), ("renderer", "rend.exe")])
def test_an_archive_without_what_the_order_names_is_a_bad_archive(
    render_job: RenderJob, missing: str, said: str
) -> None:
    (render_job.scene if missing == "scene" else render_job.renderer / "rend.exe").unlink()
    with pytest.raises(AttemptFailed) as failed:
        binary_of(render_job)
    assert failed.value.report.kind is FailureKind.BAD_ARCHIVE
    assert failed.value.report.reason == f"the {missing} archive holds no {said}"


def test_a_folder_holds_nothing_of_the_frame_before_but_empty_folders_and_the_scripts(
    render_job: RenderJob, tmp_path: Path
) -> None:
    folder = tmp_path / "attempt"
    for left in ("out", "tmp/deep", "config"):
        (folder / left).mkdir(parents=True)
        (folder / left / "left.png").touch()
    script = furnish(folder, render_job)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"script.py", "server.py"}
    assert script == folder / "script.py"
    assert {"out", "tmp", "config"} <= {path.name for path in folder.iterdir() if path.is_dir()}


def test_the_servers_script_is_kept_to_the_letter_and_run_by_ours(render_job: RenderJob, tmp_path: Path) -> None:
    script = furnish(tmp_path / "attempt", render_job)
    server_script = tmp_path / "attempt" / "server.py"
    assert server_script.read_text("utf-8") == render_job.script
    assert str(server_script) in script.read_text("utf-8")


def test_a_renderer_that_was_never_started_can_be_ended_and_the_guard_forgets_it(tmp_path: Path) -> None:
    guard = RecordingGuard()
    renderers = [RendererProcess(tmp_path, cast("OrphanGuard", guard), lambda _chunk: None) for _ in range(2)]
    for renderer in renderers:
        assert not renderer.is_started
        renderer.drain()
        renderer.end()
    assert len(set(guard.over_marks)) == 2, "each has a mark of its own"
