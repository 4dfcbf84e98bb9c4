"""The server's command line, and what it may not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render_tasks.blender.command_line import expand, frame_number, scene_file
from render_tasks.errors import BadOrder

SAMPLE = ".e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1"
PLACES = {
    "binary": Path("/r/rend.exe"),
    "scene": Path("/s/a scene.blend"),
    "script": Path("/x/script.py"),
    "prefix": Path("/x/out/frame_"),
    "frame": "0340",
}


def test_the_specifications_own_line_is_expanded() -> None:
    assert expand(SAMPLE, **PLACES) == [
        "/r/rend.exe", "--factory-startup", "--disable-autoexec", "-b", "/s/a scene.blend", "-P", "/x/script.py",
        "-o", "/x/out/frame_", "-f", "340", "-x", "1",
    ]  # fmt: skip


def test_a_core_limit_follows_the_binary() -> None:
    assert expand(SAMPLE, **PLACES, cores=6)[:3] == ["/r/rend.exe", "-t", "6"]


def test_only_whole_words_are_placeholders() -> None:
    line = ".e -b .c -o .o -f .f --addons my.c,.engine render.f x.e"
    assert expand(line, **PLACES)[-3:] == ["my.c,.engine", "render.f", "x.e"]


def test_doubled_spaces_make_no_empty_arguments() -> None:
    assert "" not in expand("  .e   -b .c  -o .o -f .f ", **PLACES)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "rm -rf / .e .c .o .f",
        "-b .e .c .o .f",
        ".e .e .c .o .f",
        ".e -b .c -f .f",
        ".e -b .c -o .o",
        ".e -b .c -o .o -f .f .z",
        ".e -b .c -o .o -f .f \x00",
        ".e -b .c -o .o -f .f\n--python-expr",
    ],
)
def test_a_line_nobody_can_carry_out_is_refused(line: str) -> None:
    with pytest.raises(BadOrder):
        expand(line, **PLACES)


@pytest.mark.parametrize(
    "frame", ["", "-5", "+5", "..", "1:10", "1,2", "3.5", "../1", "--help", "٣", "1\n", "1" * 8, "1e3"]
)
def test_a_frame_that_is_no_number_is_refused(frame: str) -> None:
    with pytest.raises(BadOrder):
        frame_number(frame)


@pytest.mark.parametrize(("frame", "number"), [("0", 0), ("0340", 340), ("1", 1), ("0000008", 8)])
def test_a_frame_is_a_decimal_number_however_it_is_padded(frame: str, number: int) -> None:
    assert frame_number(frame) == number


@pytest.mark.parametrize(
    "path",
    ["", "/", "/etc/passwd", "../a.blend", "a/../../b.blend", "C:\\a.blend", "c:/a.blend", "\\\\pc\\a.blend",
     "..\\a.blend", "a\0.blend", "a\n.blend", ".", "a/.."],
)  # fmt: skip
def test_a_scene_outside_its_archive_is_refused(path: str) -> None:
    with pytest.raises(BadOrder):
        scene_file(Path("/s"), path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.blend", "/s/a.blend"),
        ("dir/sub dir/a.blend", "/s/dir/sub dir/a.blend"),
        ("dir\\a.blend", "/s/dir/a.blend"),
        ("./a..b.blend", "/s/a..b.blend"),
        ("-x.blend", "/s/-x.blend"),
        ("überschall.blend", "/s/überschall.blend"),
        ("羊\u200d\xa0.blend", "/s/羊\u200d\xa0.blend"),
        ("scene: final.BLEND", "/s/scene: final.BLEND"),
    ],
)
def test_a_scene_is_found_whichever_slash_its_path_has(path: str, found: str) -> None:
    assert scene_file(Path("/s"), path) == Path(found)


@given(st.text())
def test_no_scene_path_ever_leads_out(path: str) -> None:
    try:
        found = scene_file(Path("/s"), path)
    except BadOrder:
        return
    assert found.is_relative_to("/s")
    assert ".." not in found.parts
    assert found != Path("/s")
