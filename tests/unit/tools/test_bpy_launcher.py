"""The launcher of the bpy wheel reads Blender's command line as Blender does."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools.bpy_launcher import BadArguments, Blender, ScriptFailed, frames_of, main, read

SERVERS = "--factory-startup --disable-autoexec -b shot.blend -P lines.py -o /tmp/out_ -f 0340 -x 1"


def test_a_servers_command_line_becomes_its_actions_in_order() -> None:
    run = read(SERVERS.split())
    assert run.actions == [("load", "shot.blend"), ("-P", "lines.py"), ("-o", "/tmp/out_"), ("-f", "0340"), ("-x", "1")]
    assert not run.autoexec


def test_long_names_and_options_of_the_whole_run_are_read() -> None:
    line = "-b -t 4 --python-exit-code 7 --enable-autoexec --render-output o --verbose 2 a.blend"
    run = read(line.split())
    assert (run.threads, run.script_failure, run.autoexec) == (4, 7, True)
    assert run.actions == [("-o", "o"), ("load", "a.blend")]


def test_scripts_may_be_given_the_folders_of_pythonpath(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "bpy", SimpleNamespace(app=SimpleNamespace(version_string="4.5")))
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["-v"]) == 0
    assert str(tmp_path) not in sys.path
    assert main(["--python-use-system-env", "-v"]) == 0
    assert str(tmp_path) in sys.path


def test_what_follows_two_dashes_is_the_scripts_own() -> None:
    assert read(["-b", "--", "-f", "3", "--nonsense"]).actions == []


@pytest.mark.parametrize("line", ["-f", "-t many", "--nonsense", "a.blend -o"])
def test_what_cannot_be_understood_is_refused(line: str) -> None:
    with pytest.raises(BadArguments):
        read(line.split())


@pytest.mark.parametrize(
    ("text", "frames"),
    [("7", [7]), ("0340", [340]), ("1,3..5", [1, 3, 4, 5]), ("+1,-1", [11, 20]), ("-2..-1", [19, 20])],
)
def test_frames_are_counted_as_blender_counts_them(text: str, frames: list[int]) -> None:
    assert frames_of(text, 10, 20) == frames


class FakeBpy:
    """As much of bpy as the launcher touches; remembers what was rendered and where to."""

    def __init__(self) -> None:
        self.rendered: list[tuple[int, int, str, int]] = []
        settings = SimpleNamespace(file_format="PNG")
        render = SimpleNamespace(
            filepath="", engine="CYCLES", use_file_extension=True, threads=0, image_settings=settings
        )
        self.scene = SimpleNamespace(frame_start=1, frame_end=250, frame_step=1, render=render)
        self.opened: list[tuple[str, bool]] = []
        files = SimpleNamespace(use_scripts_auto_execute=True)
        preferences = SimpleNamespace(filepaths=files)
        self.context = SimpleNamespace(scene=self.scene, preferences=preferences)
        handlers = SimpleNamespace(load_post=[], render_init=[], persistent=lambda function: function)
        self.app = SimpleNamespace(handlers=handlers)
        wm = SimpleNamespace(open_mainfile=self._open)
        self.ops = SimpleNamespace(wm=wm, render=SimpleNamespace(render=self._render))

    def _open(self, *, filepath: str, use_scripts: bool) -> None:
        if not Path(filepath).name.startswith("shot"):
            raise RuntimeError("Cannot read file")
        self.opened.append((filepath, use_scripts))

    def _render(self, *, animation: bool) -> None:
        assert animation
        scene = self.scene
        self.rendered.append((scene.frame_start, scene.frame_end, scene.render.filepath, scene.render.threads))


def after_command_line(line: str) -> FakeBpy:
    """The fake after a command line."""
    bpy: Any = FakeBpy()
    Blender(bpy, read(line.split())).carry_out()
    return bpy


def test_a_frame_is_rendered_to_its_prefix_and_the_scene_keeps_its_range() -> None:
    bpy = after_command_line("-b shot.blend -t 3 -o out_ -f 0012")
    assert bpy.rendered == [(12, 12, "out_", 3)]
    assert (bpy.scene.frame_start, bpy.scene.frame_end) == (1, 250)
    assert bpy.opened == [(str(Path("shot.blend").absolute()), False)]


def test_an_argument_that_comes_too_late_has_no_effect() -> None:
    assert [rendered[2] for rendered in after_command_line("-f 1 -o late -f 2").rendered] == ["", "late"]


def test_an_animation_takes_its_range_from_the_arguments() -> None:
    assert after_command_line("-s 7 -e 8 -a").rendered == [(7, 8, "", 0)]


def test_a_file_that_cannot_be_opened_ends_the_run() -> None:
    with pytest.raises(BadArguments, match="Cannot read file"):
        after_command_line("-b nothing.blend -f 1")


def test_a_script_runs_as_main_and_may_leave_with_a_code(tmp_path: Path) -> None:
    script = tmp_path / "leave.py"
    script.write_text("import sys\nassert __name__ == '__main__'\nsys.exit(5)\n")
    with pytest.raises(SystemExit) as left:
        after_command_line(f"-P {script}")
    assert left.value.code == 5


def test_a_script_that_raises_is_told_and_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert after_command_line("--python-expr 1/0 -f 1").rendered
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_script_that_raises_ends_the_run_where_that_is_wanted() -> None:
    with pytest.raises(ScriptFailed):
        after_command_line("--python-exit-code 3 -P missing.py -f 1")
