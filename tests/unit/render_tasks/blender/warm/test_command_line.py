"""Which orders an open Blender may render, and how it is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render_tasks.blender.command_line import expand
from render_tasks.blender.warm.command_line import expand_warm, looks_like_a_scene, why_not_warm
from sheepfold.contract.orders import is_test_job

SAMPLE = ".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1"
PLACES = {
    "binary": Path("/r/rend.exe"),
    "scene": Path("/s/a scene.blend"),
    "script": Path("/x/script.py"),
    "prefix": Path("/x/out/frame_"),
}
DRIVER = Path("/x/driver.py")


@pytest.mark.parametrize(
    "line",
    [
        SAMPLE,
        ".e -b .c -o .o -f .f",
        "  .e   -b  .c -o .o   -f .f -x 0 ",
        ".e -y -noaudio -b .c -F PNG -E CYCLES -t 4 -o .o -x 1 -f .f",
        ".e --background .c --render-output .o --render-frame .f --use-extension 1",
    ],
)
def test_lines_of_the_specifications_shape_may_be_warm(line: str) -> None:
    assert why_not_warm(line, "import bpy\nbpy.context.scene.render.filepath = ''\n") == ""
    assert expand_warm(line, **PLACES, driver=DRIVER).count(str(DRIVER)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-b .c -o .o -f .f",
        ".e -b .c -o .o -a",
        ".e -b .c -o .o -f .f -a",
        ".e -b .c -o .o -f .f -f .f",
        ".e -b .c -f .f -o .o",
        ".e -b -o .o .c -f .f",
        ".e -b .c -o .o -s .f -e .f -a",
        ".e -b .c -o .o -f 1..3",
        ".e -b .c -o /tmp/x -f .f",
        ".e -b .c .c -o .o -f .f",
        ".e -b .c -S Other -o .o -f .f",
        ".e -b .c -P other.py -o .o -f .f",
        ".e -b .c --python-expr pass -o .o -f .f",
        ".e -b .c -o .o -f .f -- --cycles-device CPU",
        ".e -b .c -o .o -f .f -x",
        ".e -b .c -o .o -f .f -x 2",
        ".e -b .c -F png; -o .o -f .f",
        ".e -b .c -o .o .f",
    ],
)
def test_a_line_with_anything_unknown_has_a_blender_per_frame(line: str) -> None:
    assert why_not_warm(line, "")


@pytest.mark.parametrize(
    "script",
    [
        "import sys\nframe = sys.argv[-1]",
        "line = open('/proc/self/cmdline').read()",
        "import sys\nsys.stdin.read()",
        "name = input ('?')",
        "bpy.ops.render.render(animation=True)",
        "bpy.ops.wm.quit_blender()",
        "import os\nos._exit(0)",
        "raise SystemExit",
    ],
)
def test_a_script_that_may_notice_has_a_blender_per_frame(script: str) -> None:
    assert why_not_warm(SAMPLE, script)


@given(st.lists(st.sampled_from([*SAMPLE.split(), "-a", "-F", "PNG", "-t", "2", "--", ".x", "-P"]), max_size=14))
def test_what_may_be_warm_can_be_expanded_and_differs_in_nothing_but_the_frame(words: list[str]) -> None:
    line = " ".join(words)
    if why_not_warm(line, "") == "":
        cold = expand(line, **PLACES, frame="7", cores=3)
        warm = expand_warm(line, **PLACES, driver=DRIVER, cores=3)
        differ = [(argument, other) for argument, other in zip(cold, warm, strict=True) if argument != other]
        assert differ == [("-f", "-P"), ("7", str(DRIVER))]


@given(st.text(), st.text())
def test_no_line_and_no_script_raises(line: str, script: str) -> None:
    assert isinstance(why_not_warm(line, script), str)


@pytest.mark.parametrize(
    ("head", "is_scene"),
    [
        (b"BLENDER-v304REND", True),
        (b"BLENDER_V279RENDH", True),
        (b"BLENDER17-01v0500", True),
        (b"\x1f\x8b" + bytes(20), True),
        (b"\x28\xb5\x2f\xfd" + bytes(20), True),
        (b"BLENDER", False),
        (b"# scripted\nact() {", False),
        (b"", False),
    ],
)
def test_only_a_blend_is_opened(head: bytes, is_scene: bool) -> None:
    assert looks_like_a_scene(head) is is_scene


@pytest.mark.parametrize(
    ("job_id", "is_test"),
    [("1", True), ("19", True), ("0007", True), ("20", False), ("123456789012345678", False), ("", False),
     ("a1", False), ("٣", False), ("-1", False)],
)  # fmt: skip
def test_small_job_ids_are_test_frames(job_id: str, is_test: bool) -> None:
    assert is_test_job(job_id) is is_test
