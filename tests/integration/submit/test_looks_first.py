"""`submit` and `lab` look at the scene before anything is packed, sent or started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import run_command
from tests.support.scenes.blender_scripts import run_scene_script
from tests.support.servers.running_lab import LOGIN, PASSWORD, running_lab

NAMES = ("camera-none", "movie-ffmpeg", "frames-own-with-step", "size-64x48")

pytestmark = pytest.mark.blender


@pytest.fixture(scope="module")
def scenes(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    run_scene_script(blender, "make_scenes.py", folder, *NAMES, timeout=60)
    return folder


@pytest.fixture(autouse=True)
def _account_in_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blender: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHEEPFOLD_LOGIN", LOGIN)
    monkeypatch.setenv("SHEEPFOLD_PASSWORD", PASSWORD)
    monkeypatch.setenv("SHEEPFOLD_BLENDER", blender)


def run(*arguments: object):
    return run_command(arguments)


def test_a_hopeless_scene_is_refused_without_a_server(scenes: Path):
    done = run("submit", scenes / "camera-none.blend", "--url", "http://127.0.0.1:9")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no active camera" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_way_to_compute_is_refused_before_packing(scenes: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lab.submit.packing.pack_scene", lambda *_, **__: pytest.fail("packed"))
    done = run("submit", scenes / "size-64x48.blend", "--frames", "1", "--compute", "tpu")
    assert done.exit_code == 2
    assert "cpu, gpu or either" in done.stderr


def test_a_lab_starts_nothing_for_a_hopeless_scene(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lab.demo_run.processes.Processes.start", lambda *_: pytest.fail("a process was started"))
    done = run("lab", "--blend", scenes / "camera-none.blend", "--dir", tmp_path / "runs")
    assert done.exit_code == 2, done.output
    assert "no active camera" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_scenes_own_frames_are_taken_and_named(scenes: Path, tmp_path: Path):
    with running_lab(tmp_path) as lab:
        done = run("submit", scenes / "frames-own-with-step.blend", "--url", lab.url)
        assert done.exit_code == 0, done.output
        assert "2 frames (3-12x5, the scene's own)" in done.stdout
        [project] = lab.owner.projects()
        assert [frame["frame"] for frame in lab.owner.project(project["id"])["list"]] == ["0003", "0008"]


def test_what_a_person_is_told_stays_with_the_project(scenes: Path, tmp_path: Path):
    with running_lab(tmp_path) as lab:
        done = run("submit", scenes / "movie-ffmpeg.blend", "--frames", "1-3", "--url", lab.url)
        [warning] = done.stderr.splitlines()
        assert warning.startswith("warning: the scene writes a movie")
        [project] = lab.owner.projects()
        assert project["notes"] == [warning.removeprefix("warning: ")]
        assert (project["width"], project["height"]) == (64, 48)


@pytest.mark.parametrize("notes", ["tab\tand more", "\x1b[31mred", "n" * 1001, "n\n" * 101])
def test_a_server_takes_only_plain_notes(tmp_path: Path, notes: str):
    with running_lab(tmp_path) as lab:
        from lab.errors import ServerRefused

        with pytest.raises(ServerRefused, match="printable lines"):
            lab.project(notes=notes)
        assert lab.owner.projects() == []
