"""What a packed scene holds, compared with what Blender wants of it: every kind of file, every kind of name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from lab.errors import BadScene
from lab.submit.dependencies import trace as tracing
from lab.submit.dependencies.blender_files import LISTING
from lab.submit.dependencies.references import Reference
from lab.submit.packing import pack_scene
from tests.support.scenes.blender_scripts import run_scene_script

pytestmark = pytest.mark.blender


@pytest.fixture(scope="module")
def scenes(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all scenes; nobody writes into it."""
    folder = tmp_path_factory.mktemp("scenes")
    run_scene_script(blender, "scenes_to_pack.py", folder)
    return folder


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return folder


def files_blender_wants(blender: str, scene: Path, folder: Path) -> list[dict[str, str]]:
    answer = folder / "answer.json"
    command = [blender, "-b", "--factory-startup", str(scene), "-P", str(LISTING), "--", str(scene), str(answer)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return json.loads(answer.read_text())["files"]


def render_first_frame(blender: str, scene: Path, folder: Path) -> np.ndarray:
    command = [blender, "-b", str(scene), "-o", f"{folder}/####", "-f", "1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return np.asarray(oiio.ImageBuf(str(folder / "0001.png")).get_pixels(oiio.FLOAT))


def test_a_light_profile_in_a_material_gives_the_same_picture(blender, scenes, tmp_path):
    packed = pack_scene(scenes / "light" / "scene.blend", tmp_path / "a.zip", blender=blender)
    assert packed.warnings == ()
    shutil.copytree(scenes / "light", tmp_path / "alone" / "light")  # without its profile, to show that it counts
    bare = render_first_frame(blender, scenes / "light" / "scene.blend", tmp_path / "bare")
    farm = render_first_frame(blender, unpack(packed.path, tmp_path / "far") / packed.scene, tmp_path / "farm")
    lost = render_first_frame(blender, tmp_path / "alone" / "light" / "scene.blend", tmp_path / "lost")
    assert np.array_equal(bare, farm)
    assert not np.array_equal(bare, lost)


def test_every_kind_of_file_is_where_blender_looks_for_it_and_every_pc_can_keep_its_name(blender, scenes, tmp_path):
    packed = pack_scene(scenes / "kinds" / "scene.blend", tmp_path / "a.zip", blender=blender)
    assert (packed.missing, packed.warnings) == ((), ())
    far = unpack(packed.path, tmp_path / "far")
    files = files_blender_wants(blender, far / packed.scene, tmp_path)
    assert len(files) > 18
    for file in files:
        path = Path(file["path"])
        assert path.is_relative_to(far), file
        assert path.exists() or file["kind"] == "tiles", file
        assert all((path / name).is_file() for name in file["names"]), file
    names = zipfile.ZipFile(packed.path).namelist()
    assert not [name for name in names if re.search(r'[\x00-\x1f<>:"|?*\\]|[. ](/|$)|(^|/)aux\.', name)]
    assert len({name.casefold() for name in names}) == len(names)
    for some in ("seq/", "ud[1]/", "clip/", "strip/", "soft/"):
        assert len([name for name in names if some in name]) == {"seq/": 3, "clip/": 3, "soft/": 1}.get(some, 2), names
    assert len([name for name in names if name.endswith(".ies")]) == 3


def test_a_file_that_only_blender_finds_is_packed_too(blender, scenes, tmp_path, monkeypatch):
    """The tracer of tomorrow's scenes is blind to something else: here to light profiles."""
    monkeypatch.setattr(tracing, "_FILES_OF_NODES", set())
    packed = pack_scene(scenes / "light" / "scene.blend", tmp_path / "a.zip", blender=blender)
    assert [name for name in zipfile.ZipFile(packed.path).namelist() if name.endswith("lamp.ies")]
    far = unpack(packed.path, tmp_path / "far")
    [profile] = [
        file for file in files_blender_wants(blender, far / packed.scene, tmp_path) if file["path"].endswith(".ies")
    ]
    assert Path(profile["path"]).is_relative_to(far)
    assert Path(profile["path"]).is_file()


def test_a_file_that_cannot_be_packed_is_named(blender, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(tracing, "_FILES_OF_NODES", set())
    monkeypatch.setattr("lab.submit.dependencies.blender_files.stored_at", lambda *_: ())
    with pytest.raises(BadScene, match=r"profiles/lamp\.ies cannot be packed"):
        pack_scene(scenes / "light" / "scene.blend", tmp_path / "a.zip", blender=blender)


def test_what_still_is_not_found_after_packing_is_refused(blender, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(tracing, "_FILES_OF_NODES", set())
    monkeypatch.setattr("lab.submit.dependencies.archive_plan.ArchivePlan._needed_rewrites", lambda _: {})
    with pytest.raises(BadScene, match=r"cannot be packed so that Blender finds them: .*lamp\.ies"):
        pack_scene(scenes / "light" / "scene.blend", tmp_path / "a.zip", blender=blender)


@pytest.mark.parametrize(
    ("scene", "gone"),
    [
        ("unused-image", "gone.png"),
        ("loose-node", "gone.png"),
        ("camera-background", "gone.png"),
        ("muted-strip", "gone.png"),
        ("unused-clip", "gone.png"),
        ("sound", "gone.wav"),
        ("unused-library", "gone.blend"),
    ],
)
def test_a_missing_file_that_no_picture_needs_is_a_warning(blender, scenes, tmp_path, scene, gone):
    packed = pack_scene(scenes / "missing" / f"{scene}.blend", tmp_path / "a.zip", blender=blender)
    path = scenes / "missing" / gone
    assert (packed.missing, packed.warnings) == ((), (f"missing, but no picture needs it: {path}",))


@pytest.mark.parametrize(
    ("scene", "gone"),
    [
        ("texture", "gone.png"),
        ("played-strip", "gone.png"),
        ("profile", "gone.ies"),
        ("used-library", "gone.blend"),
    ],
)
def test_a_missing_file_that_the_picture_needs_is_refused_and_the_way_around_is_named(
    blender, scenes, tmp_path, scene, gone
):
    blend, path = scenes / "missing" / f"{scene}.blend", scenes / "missing" / gone
    with pytest.raises(BadScene) as refused:
        pack_scene(blend, tmp_path / "a.zip", blender=blender)
    assert refused.value.missing == (str(path),)
    assert str(refused.value).endswith(f"not there: {path}; --allow-missing renders without them")
    packed = pack_scene(blend, tmp_path / "a.zip", allow_missing=True, blender=blender)
    assert packed.warnings == (f"missing and left out: {path}",)


@pytest.mark.parametrize(("scene", "needed"), [("unused-image", False), ("sound", False), ("texture", True)])
def test_without_blender_the_file_itself_tells_what_is_needed(scenes, tmp_path, scene, needed):
    packed = pack_scene(scenes / "missing" / f"{scene}.blend", tmp_path / "a.zip", allow_missing=True)
    assert len(packed.missing) == needed
    assert len(packed.warnings) == 2
    assert "Blender was not asked" in packed.warnings[1]


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("scene: final.blend", "scene_x3a_ final.blend"),
        ("UPPER.BLEND", "UPPER.blend"),
        ("-rf.blend", "-rf.blend"),
        ("50% #1 'a' \"b\".blend", "50% #1 'a' _x22_b_x22_.blend"),
        ("羊\u200d.blend", "羊\u200d.blend"),
        ("new\nline.blend", "new_xa_line.blend"),
        ("no suffix", "no suffix.blend"),
        ("scene.blend1", "scene.blend1.blend"),
        ("con.blend", "_con.blend"),
        ("dots...blend", "dots._x2e_.blend"),
        ("a\\b.blend", "a_x5c_b.blend"),
        (b"\xff\xfe.blend", "_xdcff__xdcfe_.blend"),
    ],
)
def test_a_scene_of_any_name_is_packed_and_blender_opens_it(blender, scenes, tmp_path, name, inside):
    folder = tmp_path / "scene"
    folder.mkdir()
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    shutil.copy(scenes / "missing" / "muted-strip.blend", folder / text)
    (tmp_path / "scene" / "gone.png").write_bytes(b"")
    packed = pack_scene(folder / text, tmp_path / "a.zip", blender=blender)
    assert packed.scene == inside
    assert not [line for line in packed.warnings if "Blender was not asked" in line]


def test_a_scene_whose_links_lead_elsewhere_is_read_where_it_is_named(scenes, tmp_path):
    """Blender looks for textures beside the link, not beside the file that it leads to."""
    (tmp_path / "shot.blend").symlink_to(scenes / "light" / "scene.blend")
    with pytest.raises(BadScene, match=re.escape(str(tmp_path.parent / "profiles" / "lamp.ies"))):
        pack_scene(tmp_path / "shot.blend", tmp_path / "a.zip")


def test_a_blender_that_gives_no_answer_is_told_and_the_scene_is_packed(scenes, tmp_path):
    broken = tmp_path / "blender"
    broken.write_text("#!/bin/sh\necho no libraries here >&2\nexit 3\n")
    broken.chmod(0o755)
    packed = pack_scene(scenes / "light" / "scene.blend", tmp_path / "a.zip", blender=str(broken))
    assert "ended with exit code 3: no libraries here" in packed.warnings[0]
    assert packed.path.is_file()


def test_references_of_a_library_of_a_library_are_its_own(scenes):
    found: list[Reference] = tracing.trace(scenes / "kinds" / "scene.blend")
    [profile] = [reference for reference in found if reference.path.name == "b.ies"]
    assert (profile.blend, profile.stored) == (scenes / "other" / "deep" / "b.blend", b"//b.ies")
