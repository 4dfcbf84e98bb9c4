"""Names that every PC can keep."""

from __future__ import annotations

import pytest

from lab.archive_names import (
    MAX_PART,
    MAX_PATH,
    MAX_PROJECT_NAME,
    first_unprintable,
    is_too_long,
    one_line,
    portable,
    portable_scene,
    project_name,
    shortened,
)


@pytest.mark.parametrize(
    "name",
    [
        "wood.png",
        "木目.png",
        "a b",
        "-x",
        "50%#1",
        "it's",
        ".hidden",
        "a\u200db",
        "console.png",
        "f.<UDIM>.png",
        "é\u0301",
    ],
)
def test_a_name_that_every_system_keeps_stays(name):
    assert portable(name) == name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("wood: dark.png", "wood_x3a_ dark.png"),
        ('a"<>|?*b', "a_x22__x3c__x3e__x7c__x3f__x2a_b"),
        ("a\\b/c", "a_x5c_b_x2f_c"),
        ("new\nline\t", "new_xa_line_x9_"),
        ("half\udcff", "half_xdcff_"),
        ("dot.", "dot_x2e_"),
        ("space ", "space_x20_"),
        ("CON", "_CON"),
        ("aux.tar.gz", "_aux.tar.gz"),
        ("com12.png", "_com12.png"),
        ("t: <UDIM>.png", "t_x3a_ <UDIM>.png"),
        ("t<1>.<UVTILE>.png", "t_x3c_1_x3e_.<UVTILE>.png"),
    ],
)
def test_a_character_that_some_system_cannot_keep_becomes_its_number(name, kept):
    assert portable(name) == kept
    assert portable(kept) == kept


def test_names_that_differ_stay_different_and_numbered_ones_stay_numbered():
    names = [f"a{mark}{number:03}.png" for mark in ':?*|" _' for number in range(20)]
    kept = [portable(name) for name in names]
    assert len(set(kept)) == len(names)
    assert all(new.endswith(old[-7:]) for new, old in zip(kept, names, strict=True))


@pytest.mark.parametrize(
    ("name", "inside"),
    [("a.BLEND", "a.blend"), ("a", "a.blend"), ("a.blend1", "a.blend1.blend"), (".blend", "scene.blend")],
)
def test_a_scene_ends_with_blend(name, inside):
    assert portable_scene(name) == inside


def test_long_scenes_are_short_and_stay_apart():
    first, second = portable_scene("n" * 200 + "1.blend"), portable_scene("n" * 200 + "2.blend")
    assert first != second
    assert max(len(first), len(second)) <= MAX_PART


def test_a_path_too_long_gets_a_short_one_with_its_suffix():
    path = "a/" * 80 + "n" * 90 + ".png"
    assert is_too_long(path)
    assert is_too_long("木" * 80)  # 240 bytes
    assert len(shortened(path)) < MAX_PATH
    assert shortened(path).endswith(".png")
    assert shortened(path) != shortened("b" + path)


@pytest.mark.parametrize(
    ("stem", "name"),
    [("shot 7", "shot 7"), ("a\n\tb", "a b"), ("", "scene"), ("\n", "scene"), ("木: x", "木: x"), ("a\udcffb", "a b")],
)
def test_a_project_is_called_as_its_file_where_a_server_can_show_it(stem, name):
    assert project_name(stem) == name


def test_a_project_name_made_of_a_long_one_says_that_it_was_cut():
    name = project_name("n" * 110)
    assert len(name) == MAX_PROJECT_NAME
    assert name.endswith("…")


def test_what_would_break_a_line_is_named():
    assert first_unprintable("a\nb") == "the character U+000A (a control character)"
    assert first_unprintable("a\u2028b") == "the character U+2028 (line separator)"
    assert first_unprintable("木 \u200d\xa0:") is None
    assert one_line("a\nb\udcff木") == "a\\u000ab\\udcff木"
