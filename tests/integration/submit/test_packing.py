"""Scenes are packed with all they need, and reach a server; the demo scene is made by a real Blender."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from lab.errors import BadScene, NoBlender
from lab.server.demo_project import create_demo
from lab.submit.packing import pack_scene
from sheepfold.digests import file_md5
from tests.support.commands import run_command
from tests.support.servers.running_lab import LOGIN, PASSWORD, picture, running_lab

pytestmark = pytest.mark.blender

BUILD = """
import bpy, sys
scene, library, texture = sys.argv[sys.argv.index("--") + 1:]
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.scene.collection.objects.link(bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "SUN")))
bpy.ops.wm.save_as_mainfile(filepath=library)
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.context.scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
bpy.context.scene.collection.objects.link(bpy.context.scene.camera)
bpy.ops.wm.save_as_mainfile(filepath=scene)
image = bpy.data.images.load(texture)
image.filepath = bpy.path.relpath(texture)
world = bpy.context.scene.world = bpy.data.worlds.new("sky")
world.use_nodes = True
sky = world.node_tree.nodes.new("ShaderNodeTexEnvironment")
sky.image = image
with bpy.data.libraries.load(library, link=True, relative=True) as (there, here):
    here.objects = ["lamp"]
bpy.context.scene.collection.objects.link(here.objects[0])
bpy.context.scene.render.resolution_x, bpy.context.scene.render.resolution_y = 200, 100
bpy.context.scene.render.resolution_percentage = 50
bpy.ops.wm.save_mainfile()
"""


@pytest.fixture
def scene(blender: str, tmp_path: Path) -> Path:
    """``shots/a.blend`` with a texture beside it and a linked library in the folder above."""
    folder = tmp_path / "work" / "shots"
    (folder / "textures").mkdir(parents=True)
    wool = folder / "textures" / "wool.png"
    wool.write_bytes(picture(tmp_path))
    (tmp_path / "build.py").write_text(BUILD)
    library = tmp_path / "work" / "library.blend"
    subprocess.run(
        [blender, "-b", "--factory-startup", "--python-exit-code", "1", "-P", str(tmp_path / "build.py"), "--",
         str(folder / "a.blend"), str(library), str(wool)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return folder / "a.blend"


def test_a_scene_takes_its_textures_and_libraries_along(scene, tmp_path, blender):
    packed = pack_scene(scene, tmp_path / "a.zip")
    assert (packed.scene, packed.missing) == ("a.blend", ())
    with zipfile.ZipFile(packed.path) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "elsewhere")
    assert "textures/wool.png" in names
    assert any(name.endswith("library.blend") for name in names)
    # Far from where it was made, Blender finds everything again.
    scene.parent.rename(tmp_path / "moved away")
    (tmp_path / "work" / "library.blend").unlink()
    ask = "import bpy; print('FOUND', bpy.data.images[0].size[0], [o.name for o in bpy.data.objects])"
    opened = subprocess.run(
        [blender, "-b", "--factory-startup", str(tmp_path / "elsewhere" / "a.blend"), "--python-expr", ask],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "FOUND 32 ['camera', 'lamp']" in opened.stdout


def test_the_same_scene_gives_the_same_bytes(scene, tmp_path):
    first, second = pack_scene(scene, tmp_path / "1.zip"), pack_scene(scene, tmp_path / "2.zip")
    assert file_md5(first.path) == file_md5(second.path)


def test_missing_files_are_named_and_can_be_left_out(scene, tmp_path):
    (scene.parent / "textures" / "wool.png").unlink()
    with pytest.raises(BadScene, match=r"not there: .*wool\.png") as refused:
        pack_scene(scene, tmp_path / "a.zip")
    assert len(refused.value.missing) == 1
    packed = pack_scene(scene, tmp_path / "b.zip", allow_missing=True)
    assert packed.missing == refused.value.missing


@pytest.mark.parametrize(
    "content", [b"", b"BLENDER", b"BLENDER-v304" + bytes(500), b"not a blend", b"\x28\xb5\x2f\xfd" * 9]
)
def test_what_is_no_scene_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.blend").write_bytes(content)
    with pytest.raises(BadScene) as refused:
        pack_scene(tmp_path / "a.blend", tmp_path / "a.zip")
    assert "\n" not in str(refused.value)


def test_submit_brings_a_scene_to_the_server(scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with running_lab(tmp_path) as lab:
        monkeypatch.setenv("SHEEPFOLD_LOGIN", LOGIN)
        (tmp_path / "password").write_text(PASSWORD + "\n")
        monkeypatch.setenv("SHEEPFOLD_PASSWORD_FILE", str(tmp_path / "password"))
        arguments = ["submit", str(scene), "--name", "shot7", "--url", lab.url, "--frames"]
        done = run_command([*arguments, "1-10x3,20"])
        assert done.exit_code == 0, done.output
        [project] = lab.owner.projects()
        assert (project["name"], project["frames"], project["width"], project["height"]) == ("shot7", 5, 100, 50)
        assert run_command([*arguments, "10-1"]).exit_code == 2
        monkeypatch.setenv("SHEEPFOLD_PASSWORD", "wrong")
        refused = run_command([*arguments, "1"])
        assert refused.exit_code == 3
        assert len(lab.owner.projects()) == 1


def test_the_demo_is_made_once(blender, tmp_path):
    with running_lab(tmp_path) as lab:
        project = create_demo(lab.services)
        assert (project.name, project.remaining, project.width, project.height) == ("demo", 12, 320, 180)
        assert create_demo(lab.services).id == project.id


def test_a_demo_without_blender_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SHEEPFOLD_BLENDER", str(tmp_path / "no-blender"))
    with running_lab(tmp_path) as lab, pytest.raises(NoBlender, match="SHEEPFOLD_BLENDER"):
        create_demo(lab.services)
