"""What is read from a .blend is what Blender says of it; and nothing that is no .blend makes the reader stumble."""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path

import pytest

from lab.errors import BadScene, UnreadableScene
from lab.submit.prepared_scene import prepare_scene
from lab.submit.scene.blend_file import open_blend
from lab.submit.scene.code import is_simple, python_drivers
from lab.submit.scene.facts import FORMATS, SceneFacts, Views, read_scene
from tests.support.scenes.blender_scripts import run_scene_script
from tests.support.scenes.make_scenes import CASES

pytestmark = pytest.mark.blender

#: Each as Blender judges it: which of them it computes without Python.
EXPRESSIONS = (
    "1", "frame", "frame/10", "-frame + 2*pi", "2**3", "7 % 2", "7 // 2", "frame > 3", "1 < frame < 5",
    "frame > 1 and not frame == 4", "1 if frame else 0", "sin(frame)", "min(1, 2, frame)", "max(frame)", "min()",
    "log(2)", "log(8, 2)", "log(1, 2, 3)", "pow(2, 3)", "pow(2)", "clamp(frame)", "clamp(frame, 0)",
    "clamp(frame, 0, 1)", "lerp(0, 1, 0.5)", "smoothstep(0, 1, 0.5)", "smoothstep(0, 1)", "round(1.5)",
    "round(1.55, 1)", "var", "var * 2", "other", "self.location[0]", "noise.random()",
    "bpy.context.scene.frame_current",
    "len('abc')", "[1, 2][0]", "(1)", "((frame))", "True", "False", "None", "1.5e3", "0x10", "frame is 1",
    "frame != 2", "frame <> 2",
    "(1, 2)", "lambda: 1", "'text'", "sqrt(4)", "cbrt(8)", "atan2(1, 2)", "fmod(5, 3)", "abs(-1)", "fabs(-1)",
    "int(2.5)", "float(2)", "trunc(2.5)", "floor(2.5)", "ceil(2.5)", "degrees(1)", "radians(1)", "exp(1)", "tan(1)",
    "acos(1)", "asin(1)", "atan(1)", "cos(1)", "e", "tau", "", "frame +", "frame; 1", "sum([1, 2])", "1_000", "1j",
    "sin(x=1)", "math.sin(1)", "+frame", "not frame", "~1", "1 << 2", "frame if True", "min(*[1, 2])", "0.5 .real",
)  # fmt: skip
#: Pixels of the cropped scenes, as Blender 3.4 renders them.
CROPPED = {
    "crop-all": (200, 100),
    "crop-and-percent": (69, 48),
    "crop-exr": (100, 60),
    "crop-half": (100, 60),
    "crop-rounds-up": (120, 40),
    "crop-thirds": (89, 78),
    "crop-tiny": (5, 5),
    "crop-without-region": (200, 100),
}
ASK_DRIVERS = """
import bpy, json, sys
folder, *expressions = sys.argv[sys.argv.index("--") + 1:]
cube, said = bpy.data.objects["Cube"], {}
for number, expression in enumerate(expressions):
    item = bpy.data.objects.new(str(number), None)
    bpy.context.scene.collection.objects.link(item)
    driver = item.driver_add("location", 0).driver
    driver.variables.new().name = "var"
    driver.expression = expression
    said[expression] = driver.is_simple_expression
bpy.ops.wm.save_as_mainfile(filepath=folder + "/drivers.blend", compress=True)
open(folder + "/simple.json", "w").write(json.dumps(said))
"""

ASK_SHIPPED = """
import bpy, json, os, sys
said = {}
for kind in ("SYSTEM", "LOCAL"):
    for root, _, names in os.walk(bpy.utils.resource_path(kind) or "/nowhere"):
        for name in names:
            path = os.path.join(root, name)
            if not name.endswith(".blend"):
                continue
            bpy.ops.wm.open_mainfile(filepath=path, load_ui=False)
            scene = bpy.context.scene
            render = scene.render
            said[path] = [
                list(bpy.data.version[:2]), scene.name, render.engine, render.image_settings.file_format,
                render.resolution_x * render.resolution_percentage // 100,
                render.resolution_y * render.resolution_percentage // 100,
                scene.frame_start, scene.frame_end, scene.frame_step,
            ]
open(sys.argv[-1], "w").write(json.dumps(said))
"""


@pytest.fixture(scope="module")
def scene_folder(blender: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scene_folder = tmp_path_factory.mktemp("scenes")
    run_scene_script(blender, "make_scenes.py", scene_folder)
    return scene_folder


@pytest.fixture(scope="module")
def facts(scene_folder: Path) -> dict[str, SceneFacts]:
    return {name: read_scene(scene_file(scene_folder, name)) for name in CASES}


@pytest.fixture(scope="module")
def blender_values(scene_folder: Path) -> dict[str, dict]:
    return json.loads((scene_folder / "values.json").read_text())


def scene_file(scene_folder: Path, name: str) -> Path:
    return scene_folder / f"{CASES[name].get('file', name)}.blend"


def test_every_figure_of_every_scene_is_the_one_blender_says(facts, blender_values):
    assert len(blender_values) == len(CASES) >= 60
    for name, blender in blender_values.items():
        ours = facts[name]
        assert list(ours.version) == blender["version"], name
        assert (ours.name, ours.burns_in_text) == (blender["name"], blender["stamp"]), name
        assert [ours.first_frame, ours.last_frame, ours.frame_step] == blender["frames"], name
        assert ours.format == blender["format"], name
        if name != "engine-of-an-addon":  # Blender's Python has no name for an engine that is gone
            assert ours.engine == blender["engine"], name
        assert (ours.border is not None) == blender["use_border"], name
        if ours.border:
            assert ours.border == pytest.approx(blender["border"], abs=1e-6), name
        width, height, percent = blender["resolution"]
        if not (blender["use_border"] and blender["use_crop"]):
            assert (ours.width, ours.height) == (width * percent // 100, height * percent // 100), name
        assert (ours.views is Views.ONE) == (blender["views"] < 2), name
        if ours.views is not Views.ONE:
            files = ours.views in (Views.STEREO_FILES, Views.VIEW_FILES)
            assert files == (blender["views_format"] == "INDIVIDUAL"), name
        assert ours.has_camera or not blender["camera"], name
        assert bool(ours.python_drivers) == (False in blender["simple"]), name


def test_a_cropped_region_has_the_size_that_blender_renders(facts):
    """Measured once on Blender's own pictures; `make test-scenes` measures them anew."""
    sizes = {name: (facts[name].width, facts[name].height) for name in facts if name.startswith("crop")}
    assert sizes == CROPPED


def test_all_formats_that_blender_writes_are_known_by_their_number(facts):
    assert {"PNG", "OPEN_EXR_MULTILAYER", "CINEON", "WEBP", "AVI_JPEG", "JPEG2000"} <= {
        f.format for f in facts.values()
    }
    assert all(found.format in FORMATS.values() for found in facts.values())


def test_files_of_older_blenders_are_read_as_blender_reads_them(blender: str, tmp_path: Path):
    """Blender ships scenes that were saved by 2.78 and by many versions since."""
    (tmp_path / "ask.py").write_text(ASK_SHIPPED)
    command = [blender, "-b", "--factory-startup", "--python-exit-code", "1", "-P", str(tmp_path / "ask.py"), "--"]
    subprocess.run([*command, str(tmp_path / "values.json")], check=True, capture_output=True, timeout=100)
    blender_values = json.loads((tmp_path / "values.json").read_text())
    assert blender_values, "Blender ships at least its start-up files"
    for path, blenders in blender_values.items():
        ours = read_scene(Path(path))
        frames = [ours.first_frame, ours.last_frame, ours.frame_step]
        pictures = [ours.engine, ours.format, ours.width, ours.height]
        assert [list(ours.version), ours.name, *pictures, *frames] == blenders, path


@pytest.mark.parametrize("name", CASES)
def test_a_person_is_told_what_comes_out_otherwise_and_nothing_else(name: str, scene_folder: Path):
    expected, frame = CASES[name], CASES[name].get("frame", 1)
    frames = "" if frame == "own" else str(frame)
    if "refused" in expected:
        with pytest.raises(BadScene, match=expected["refused"]):
            prepare_scene(scene_file(scene_folder, name), frames)
        return
    prepared = prepare_scene(scene_file(scene_folder, name), frames)
    assert len(prepared.notes) == expected.get("notes", int("warning" in expected)), prepared.notes
    assert expected.get("warning", "") in "; ".join(prepared.notes)
    assert all(note.isprintable() for note in prepared.notes)


def test_drivers_that_blender_computes_without_python_are_told_apart(blender: str, tmp_path: Path):
    (tmp_path / "ask.py").write_text(ASK_DRIVERS)
    command = [blender, "-b", "--factory-startup", "--python-exit-code", "1", "-P", str(tmp_path / "ask.py"), "--"]
    subprocess.run([*command, str(tmp_path), *EXPRESSIONS], check=True, capture_output=True, timeout=60)
    blender_values = json.loads((tmp_path / "simple.json").read_text())
    ours = {expression: is_simple(expression, {"var"}) for expression in EXPRESSIONS}
    # Blender calls an empty one simple or not, and computes nothing either way.
    wrong = [expression for expression in EXPRESSIONS if expression and ours[expression] != blender_values[expression]]
    assert not wrong
    with open_blend(tmp_path / "drivers.blend") as file:
        assert set(python_drivers(file)) == {
            expression for expression, simple in blender_values.items() if expression and not simple
        }


def test_a_damaged_scene_is_one_plain_error_within_seconds(scene_folder: Path, tmp_path: Path):
    """Cut off, or with bytes changed anywhere: facts or a refusal, never a hang and never another exception."""
    whole, dice, damaged = (
        scene_file(scene_folder, "cloth-baked").read_bytes(),
        random.Random(7),
        tmp_path / "damaged.blend",
    )
    if whole[:4] == b"\x28\xb5\x2f\xfd":
        pytest.skip("this Blender compresses by itself")
    refused = 0
    for turn in range(120):
        content = bytearray(whole[: dice.randrange(len(whole))] if turn % 3 == 0 else whole)
        for _ in range(dice.choice((0, 1, 20, 2000)) if turn % 3 else 0):
            # Half of it where the file describes itself, at its end.
            start = len(content) - 120_000 if dice.random() < 0.5 else 0
            content[dice.randrange(max(0, start), len(content))] = dice.choice((0, 255, dice.randrange(256)))
        damaged.write_bytes(content)
        began = time.monotonic()
        try:
            read_scene(damaged)
        except UnreadableScene as error:
            refused += "damaged.blend" in str(error) and "\n" not in str(error)
        assert time.monotonic() - began < 10
    assert refused > 20


@pytest.mark.parametrize("content", [b"", b"BLENDER", b"BLENDER-v304" + bytes(500), b"no blend", b"\x1f\x8b" * 99])
def test_what_is_no_scene_is_refused_before_it_is_packed(content: bytes, tmp_path: Path):
    (tmp_path / "a.blend").write_bytes(content)
    with pytest.raises(BadScene, match=r"a\.blend") as refused:
        prepare_scene(tmp_path / "a.blend")
    assert "\n" not in str(refused.value)


def test_a_block_that_points_back_does_not_keep_the_reader_busy(scene_folder: Path, tmp_path: Path):
    """The length of the first block becomes negative: a reader that believes it reads the same block for ever."""
    content = bytearray(scene_file(scene_folder, "size-64x48").read_bytes())
    content[16:20] = (-24).to_bytes(4, "little", signed=True)
    (tmp_path / "a.blend").write_bytes(content)
    with pytest.raises(UnreadableScene, match="damaged"):
        read_scene(tmp_path / "a.blend")
