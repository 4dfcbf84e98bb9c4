"""The table of the scenes that the farm renders in tests, and what they are made from."""

from __future__ import annotations

try:
    import bpy
except ImportError:  # the table is read outside of Blender, too
    bpy = None

#: Name → what is expected: ``frame``, ``warning`` (a part of what submit says), ``notes`` (how many lines that is),
#: ``refused`` (the same as ``warning``, and no project), ``file`` (its name, where it is not the case's), ``bare``
#: (more arguments for bare Blender), ``differs`` (the pixels may be others than bare Blender's), ``renders`` (whether
#: the farm is waited for).
CASES = {}
MAKERS = {}


def case(name, **expected):
    def keep(make):
        assert name not in CASES, name
        CASES[name], MAKERS[name] = expected, make
        return make

    return keep


def new_scene(width=64, height=48):
    """Blender's own cube, turning; Cycles with two samples."""
    bpy.ops.wm.read_factory_settings(use_empty=False)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 2, False, "CPU"
    scene.frame_start, scene.frame_end = 1, 10
    cube = bpy.data.objects["Cube"]
    for frame in (1, 10):
        cube.rotation_euler[2] = frame / 3
        cube.keyframe_insert("rotation_euler", frame=frame)
    return scene


def border(scene, region, crop):
    render = scene.render
    render.use_border, render.use_crop_to_border = True, crop
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = region
