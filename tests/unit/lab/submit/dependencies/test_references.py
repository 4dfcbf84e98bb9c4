"""Which files a stored path stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.submit.dependencies.references import Kind, Reference, absolute_path


def names(folder: Path, kind: Kind, name: str, there: list[str], listed: tuple[str, ...] = ()) -> list[str]:
    for other in there:
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_bytes(b"")
    reference = Reference(blend=folder / "a.blend", stored=b"", path=folder / name, kind=kind, names=listed)
    return [path.relative_to(folder).as_posix() for path in reference.files()]


@pytest.mark.parametrize(
    ("kind", "name", "there", "found"),
    [
        (Kind.FILE, "a*.png", ["a*.png", "ab.png"], ["a*.png"]),
        (Kind.FRAMES, "f001.png", ["f001.png", "f12.png", "f.png", "f1.jpg", "fx1.png"], ["f001.png", "f12.png"]),
        (Kind.FRAMES, "f01_L.png", ["f01_L.png", "f02_L.png", "f02_R.png"], ["f01_L.png", "f02_L.png"]),
        (Kind.FRAMES, "v2_010.vdb", ["v2_010.vdb", "v2_011.vdb", "v3_010.vdb"], ["v2_010.vdb", "v2_011.vdb"]),
        (Kind.FRAMES, "[x]?1.png", ["[x]?1.png", "[x]?2.png", "xa1.png"], ["[x]?1.png", "[x]?2.png"]),
        (Kind.FRAMES, "still.png", ["still.png", "other.png"], ["still.png"]),
        (Kind.FRAMES, "noext7", ["noext7", "noext8"], ["noext7", "noext8"]),
        (Kind.TILES, "t[1].<UDIM>.png", ["t[1].1001.png", "t[1].1012.png", "t[1].x.png"],
         ["t[1].1001.png", "t[1].1012.png"]),
        (Kind.TILES, "t_<UVTILE>.png", ["t_u1_v1.png", "t_u10_v2.png", "t_1001.png"], ["t_u10_v2.png", "t_u1_v1.png"]),
        (Kind.MATCHES, "c/43*.bphys", ["c/43_01.bphys", "c/44_01.bphys"], ["c/43_01.bphys"]),
        (Kind.FOLDER, "fluid", ["fluid/data/a.vdb", "fluid/b", "fluids/c"], ["fluid/b", "fluid/data/a.vdb"]),
    ],
)  # fmt: skip
def test_a_path_stands_for_the_files_that_blender_opens(tmp_path, kind, name, there, found):
    assert names(tmp_path, kind, name, there) == found


def test_a_list_names_each_file_and_each_that_is_not_there(tmp_path):
    assert names(tmp_path, Kind.LISTED, "strip", ["strip/a.png", "strip/c.png"], ("a.png", "b.png")) == ["strip/a.png"]
    path = tmp_path / "strip"
    strip = Reference(blend=path, stored=b"", path=path, kind=Kind.LISTED, names=("a.png", "b.png"))
    assert strip.absent() == [path / "b.png"]


@pytest.mark.parametrize(
    ("stored", "path"),
    [
        (b"//a.png", "/p/shot/a.png"),
        (b"//../tex/a.png", "/p/tex/a.png"),
        (b"//tex\\a.png", "/p/shot/tex/a.png"),
        (b"/abs/a.png", "/abs/a.png"),
        (b"a.png", "/p/shot/a.png"),
        (b"//wood: dark.png", "/p/shot/wood: dark.png"),
        (b"C:\\tex\\a.png", "C:/tex/a.png"),
        (b"//\xff.png", "/p/shot/\udcff.png"),
    ],
)
def test_a_stored_path_is_resolved_as_blender_does(stored, path):
    assert absolute_path(stored, Path("/p/shot/a.blend")) == Path(path)
