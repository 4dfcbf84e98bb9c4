"""A real Blender that stays open gives the same pixels as the server's command line."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from render_tasks.blender.output.progress import Progress
from render_tasks.errors import AttemptFailed
from tests.support.blender.warm_pool_harness import PLAIN, WarmPoolHarness, open_scenes
from tests.support.nodes.null_renderer import COMMAND_LINE

OTHER_LINE = ".e -t 1 --factory-startup -y -b .c -x 1 -F JPEG -E CYCLES -o .o -f .f"
#: As servers send it, in the API of Blenders from 2.80 on.
PNG_FOR_MOVIES = """import bpy
render = bpy.context.scene.render
if render.image_settings.file_format not in {"BMP", "PNG", "JPEG", "TARGA", "TARGA_RAW"}:
    render.image_settings.file_format = "PNG"
    render.filepath = ""
"""
HANDLERS = """import bpy
def lift(scene, *_):
    bpy.data.objects["Cube"].scale.z = 1 + scene.frame_current / 10
def widen(scene, *_):
    scene.camera.data.lens = 35 + scene.frame_current + scene.frame_end / 50
bpy.app.handlers.frame_change_pre.append(lift)
bpy.app.handlers.render_init.append(widen)
"""


def pixels(path: Path) -> np.ndarray:
    return np.asarray(oiio.ImageBuf(str(path)).get_pixels(oiio.FLOAT))


@pytest.mark.parametrize(
    ("scene", "script", "line"),
    [
        pytest.param("moving", PLAIN, COMMAND_LINE, id="motion blur and drivers"),
        pytest.param("movie", PNG_FOR_MOVIES, COMMAND_LINE, id="a script that changes the format"),
        pytest.param("composed", PLAIN, COMMAND_LINE, id="compositor nodes and two cameras"),
        pytest.param("ranged", PLAIN, COMMAND_LINE, id="a driver that reads the frame range"),
        pytest.param("hairy", HANDLERS, COMMAND_LINE, id="hair, and a script with handlers"),
        pytest.param("moving", PLAIN, ".e --factory-startup -b .c -x 0 -o .o -f .f", id="names without an extension"),
        pytest.param("moving", "this is (no Python", OTHER_LINE, id="other options and a broken script"),
    ],
)
def test_every_frame_has_the_name_and_the_pixels_of_the_servers_own_command_line(
    harness: WarmPoolHarness, blender: str, scene: str, script: str, line: str
) -> None:
    for frame in ("0007", "3", "12"):
        warm = harness.render(harness.job(scene, frame, script=script, command_line=line))
        direct = harness.by_hand(blender, scene, frame, script, line)
        assert warm.picture.name == direct.name
        assert np.array_equal(pixels(warm.picture), pixels(direct)), f"frame {frame} differs"
    assert harness.starts == 1


def test_frames_differ_from_each_other(harness: WarmPoolHarness) -> None:
    pictures = [pixels(harness.render(harness.job("moving", frame)).picture) for frame in ("1", "5", "9")]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_a_simulation_has_one_blender_per_frame_from_its_second_start_on(
    harness: WarmPoolHarness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for frame in ("4", "5"):
            assert harness.render(harness.job("falling", frame)).picture.name == f"frame_000{frame}.png"
    assert "it has a simulation (Cube)" in caplog.text
    assert harness.starts == 3


def test_test_frames_and_lines_with_unknown_options_leave_nothing_open(harness: WarmPoolHarness) -> None:
    harness.render(harness.job("moving", "1", is_test=True))
    harness.render(harness.job("moving", "1", command_line=".e -b --verbose 1 .c -o .o -f .f"))
    assert not open_scenes(harness)
    assert harness.starts == 2


def test_time_and_memory_are_those_of_each_frame(harness: WarmPoolHarness) -> None:
    reported: list[Progress] = []
    began = time.monotonic()
    first, second = (harness.render(harness.job("moving", frame), on_progress=reported.append) for frame in ("1", "2"))
    assert second.render_s < first.render_s
    assert first.render_s + second.render_s < time.monotonic() - began
    assert 50_000 < second.memory_kb < 1_000_000
    assert reported[-1].fraction == pytest.approx(1.0, abs=0.5)
    # A peak that an earlier frame left behind is forgotten.
    greedy = "import bpy\n"
    greedy += "bpy.app.handlers.render_pre.append(lambda s, *_: b'x' * (300_000_000 if s.frame_current == 1 else 1))\n"
    high, low = (harness.render(harness.job("moving", frame, script=greedy)) for frame in ("1", "2"))
    assert high.memory_kb - low.memory_kb > 200_000


def test_the_memory_told_under_way_is_what_the_tree_holds_and_not_what_blender_counts(harness: WarmPoolHarness) -> None:
    reported: list[Progress] = []
    hoard = "import bpy\nhoard = []\nbpy.app.handlers.render_pre.append(lambda *_: hoard.append(b'x' * 300_000_000))\n"
    with pytest.raises(AttemptFailed):
        harness.render(harness.job("heavy", "3", script=hoard, time_limit_s=4), on_progress=reported.append)
    assert reported[-1].memory_kb > 300_000


def test_blender_finds_no_orders_on_its_standard_input(harness: WarmPoolHarness) -> None:
    script = """import bpy, os
def look(*_):
    print("found", os.read(0, 100), flush=True)
    os.kill(os.getpid(), 9)
bpy.app.handlers.render_pre.append(look)
"""
    with pytest.raises(AttemptFailed) as failed:
        harness.render(harness.job("moving", "1", script=script))
    assert failed.value.report.log.count("found b''") == 2
