"""Builds the scenes that must look the same from a Blender that stays open. Runs inside Blender.

    blender -b --factory-startup -P warm_scenes.py -- FOLDER

Each is small, and each holds something that might be carried from one frame to the next.
"""

import os
import sys

import bpy


def new_scene():
    """A cube that turns, a light, a camera; 64 × 36 pixels, 4 samples."""
    bpy.ops.wm.read_factory_settings(use_empty=False)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 4
    scene.cycles.use_denoising = False
    scene.cycles.use_animated_seed = True
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 36, 100
    cube = bpy.data.objects["Cube"]
    for frame, turn in ((1, 0.0), (12, 3.0)):
        cube.rotation_euler = (turn / 2, 0.3, turn)
        cube.keyframe_insert("rotation_euler", frame=frame)
    return scene, cube


def moving(scene, cube):
    """Motion blur, and a driver that counts frames."""
    scene.render.use_motion_blur = True
    cube.driver_add("location", 2).driver.expression = "sin(frame / 3)"


def movie(scene, _cube):
    """Saved as a film, by a person who keeps data between frames and writes no extensions."""
    scene.render.image_settings.file_format = "FFMPEG"
    scene.render.use_persistent_data = True


def composed(scene, cube):
    """Nodes behind the render; a second camera from frame 6 on; depth and blur."""
    second_camera = bpy.data.objects.new("second", bpy.data.cameras.new("second"))
    second_camera.location, second_camera.rotation_euler = (0, -8, 1), (1.45, 0, 0)
    scene.collection.objects.link(second_camera)
    for frame, camera in ((1, scene.camera), (6, second_camera)):
        scene.timeline_markers.new(f"m{frame}", frame=frame).camera = camera
    scene.use_nodes = True
    tree = scene.node_tree
    layers, out = tree.nodes["Render Layers"], tree.nodes["Composite"]
    blur, time_ = tree.nodes.new("CompositorNodeBlur"), tree.nodes.new("CompositorNodeTime")
    mix = tree.nodes.new("CompositorNodeMixRGB")
    blur.size_x = blur.size_y = 4
    time_.frame_start, time_.frame_end = 1, 12
    tree.links.new(layers.outputs["Image"], blur.inputs["Image"])
    tree.links.new(time_.outputs[0], mix.inputs[0])
    tree.links.new(layers.outputs["Image"], mix.inputs[1])
    tree.links.new(blur.outputs["Image"], mix.inputs[2])
    tree.links.new(mix.outputs["Image"], out.inputs["Image"])


def ranged(scene, cube):
    """A driver that reads the scene's own range, which is not the range of one frame."""
    scene.frame_start, scene.frame_end = 2, 40
    driver = cube.driver_add("location", 0).driver
    for name, path in (("first", "frame_start"), ("last", "frame_end")):
        variable = driver.variables.new()
        variable.name, variable.type = name, "SINGLE_PROP"
        variable.targets[0].id_type, variable.targets[0].id = "SCENE", scene
        variable.targets[0].data_path = path
    driver.expression = "(last - first) / 30 - 1"


def falling(scene, cube):
    """Cloth: where it hangs depends on the frames before."""
    cube.modifiers.new("cloth", "CLOTH")


def hairy(scene, cube):
    """Hair that only stands there."""
    cube.modifiers.new("hair", "PARTICLE_SYSTEM")
    settings = cube.particle_systems[0].settings
    settings.type, settings.count = "HAIR", 40


def heavy(scene, _cube):
    """Renders for minutes."""
    scene.cycles.samples = 100_000
    scene.render.resolution_x = scene.render.resolution_y = 1000


folder = sys.argv[-1]
for change in (moving, movie, composed, ranged, falling, hairy, heavy):
    change(*new_scene())
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(folder, change.__name__ + ".blend"))  # noqa: PTH118
