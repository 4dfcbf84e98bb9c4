"""Films go black: one PC with a real Blender, and a server that refuses what it takes for the work of a broken GPU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.farm.evidence import pixels, rendered_directly
from tests.support.farm.running_farm import running_farm, wait_for

pytestmark = [pytest.mark.blender, pytest.mark.redis, pytest.mark.timeout(120)]

#: Five frames of the cube of every new file; in the third the lights are out.
_MAKE_SCENE = """
import bpy, sys
bpy.ops.wm.read_factory_settings()
scene = bpy.context.scene
scene.render.engine, scene.cycles.samples, scene.cycles.use_denoising = 'CYCLES', 1, False
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 32, 18, 100
world, lamp = scene.world.node_tree.nodes['Background'].inputs[1], bpy.data.objects['Light'].data
for frame in range(1, 6):
    world.default_value, lamp.energy = (0, 0) if frame == 3 else (1, 1000)
    world.keyframe_insert('default_value', frame=frame)
    lamp.keyframe_insert('energy', frame=frame)
for action in bpy.data.actions:
    for curve in action.fcurves:
        for key in curve.keyframe_points:
            key.interpolation = 'CONSTANT'
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
"""


@pytest.fixture
def scene_with_black_frame(tmp_path: Path, blender: str) -> Path:
    """A scene with one black frame."""
    path = tmp_path / "black.blend"
    words = [blender, "--background", "--factory-startup", "--python-expr", _MAKE_SCENE, "--", str(path)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    return path


def test_a_single_black_frame_is_delivered_after_a_second_look_with_a_fresh_blender(
    tmp_path: Path, blender: str, scene_with_black_frame: Path
) -> None:
    with running_farm(tmp_path, environment={"SHEEPFOLD_BLENDER": blender, "SHEEPFOLD_SLOTS": "1"}) as farm:
        farm.start_server()
        submitted = farm.run("submit", str(scene_with_black_frame), "--frames", "1-5", "--name", "black")
        assert submitted.returncode == 0, submitted.stderr
        farm.start_coordinator()
        farm.start_worker("pc-01")
        wait_for("five frames are accepted", lambda: farm.status()["accepted"] == 5, 60)
        [node] = farm.status()["nodes"]
        assert node["strikes"] == []
        worker, coordinator = (farm.log_of(name).read_text() for name in ("pc-01", "coordinator"))

    assert coordinator.count("ordered from pc-01") == 6, "one of them twice"
    assert "frame 0003 · black is held back until a second render agrees: the picture is wholly black" in coordinator
    assert "a warm Blender is closed after" in worker
    assert "another needs its place" in worker, "the second look was not the warm one's"
    pictures = sorted((tmp_path / "server").glob("projects/*/frames/*.png"))
    assert [int(path.stem) for path in pictures] == [1, 2, 3, 4, 5]
    for picture in pictures[1:3]:
        assert pixels(picture) == pixels(
            rendered_directly(blender, scene_with_black_frame, int(picture.stem), tmp_path)
        )
