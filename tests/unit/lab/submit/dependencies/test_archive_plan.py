"""Where files go in an archive, and which stored paths change for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import BadScene
from lab.submit.dependencies.archive_plan import ArchivePlan
from lab.submit.dependencies.references import Field, Kind, Reference

PLACE = (Field(offset=10, capacity=1024),)


def reference(scene_file: Path, stored: str, path: Path, **more: object) -> Reference:
    if more.get("kind", Kind.FILE) is Kind.FILE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return Reference(**{"blend": scene_file, "stored": stored.encode(), "path": path, "fields": PLACE} | more)


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    (tmp_path / "shot").mkdir()
    return tmp_path / "shot" / "a.blend"


def rewritten_paths(plan: ArchivePlan) -> list[bytes]:
    return [text for changes in plan._rewrites.values() for _, text in changes]


def test_files_of_the_scenes_folder_stay_and_nothing_is_rewritten(scene_file):
    plan = ArchivePlan(scene_file, [reference(scene_file, "//tex/a.png", scene_file.parent / "tex" / "a.png")])
    assert sorted(plan.files) == ["a.blend", "tex/a.png"]
    assert rewritten_paths(plan) == []


@pytest.mark.parametrize("stored", ["//../wool.png", "/abs/wool.png", "//x/../../wool.png"])
def test_what_lies_outside_comes_along_and_is_named_from_there(scene_file, stored):
    plan = ArchivePlan(scene_file, [reference(scene_file, stored, scene_file.parent.parent / "wool.png")])
    [target] = [name for name in plan.files if name.endswith("wool.png")]
    assert target.startswith("_outside_project/")
    assert rewritten_paths(plan) == [b"//" + target.encode()]


def test_a_library_outside_keeps_its_own_relative_paths(scene_file):
    library = scene_file.parent.parent / "lib" / "l.blend"
    plan = ArchivePlan(
        scene_file,
        [reference(scene_file, "//../lib/l.blend", library), reference(library, "//t.png", library.with_name("t.png"))],
    )
    assert [text for text in rewritten_paths(plan) if text.endswith(b"t.png")] == []
    assert len(rewritten_paths(plan)) == 1


def test_a_name_that_some_pc_cannot_keep_is_changed_in_archive_and_scene(scene_file):
    plan = ArchivePlan(scene_file, [reference(scene_file, "//wood: dark.png", scene_file.parent / "wood: dark.png")])
    assert "wood_x3a_ dark.png" in plan.files
    assert rewritten_paths(plan) == [b"//wood_x3a_ dark.png"]


def test_names_that_differ_in_case_alone_both_come_along(scene_file):
    files = [scene_file.parent / "Wood.png", scene_file.parent / "wood.png"]
    plan = ArchivePlan(scene_file, [reference(scene_file, f"//{path.name}", path) for path in files])
    assert sorted(plan.files.values()) == sorted([scene_file, *files])
    assert len({name.casefold() for name in plan.files}) == 3


def test_frames_that_cannot_be_told_apart_are_named(scene_file):
    for name in ("f1.png", "F1.png"):
        (scene_file.parent / name).write_bytes(b"")
    frames = [
        reference(scene_file, f"//{name}", scene_file.parent / name, kind=Kind.FRAMES) for name in ("f1.png", "F1.png")
    ]  # fmt: skip
    with pytest.raises(BadScene, match=r"f1\.png and .*F1\.png cannot be told apart"):
        ArchivePlan(scene_file, frames)


@pytest.mark.parametrize(
    ("fields", "why"), [((), "its path cannot be rewritten"), ((Field(offset=0, capacity=8),), "its path is too long")]
)
def test_a_path_that_cannot_be_rewritten_is_named(scene_file, fields, why):
    with pytest.raises(BadScene, match=rf"wool\.png cannot be packed: {why}"):
        ArchivePlan(
            scene_file, [reference(scene_file, "//../wool.png", scene_file.parent.parent / "wool.png", fields=fields)]
        )


def test_what_is_not_there_is_listed_and_left_out(scene_file):
    gone = Reference(blend=scene_file, stored=b"//gone.png", path=scene_file.parent / "gone.png")
    plan = ArchivePlan(scene_file, [gone])
    assert plan.absent() == [(gone.path, gone)]
    assert list(plan.files) == ["a.blend"]
