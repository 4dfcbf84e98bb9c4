"""Makes a folder of small scenes: every kind of thing a person may set, one at a time.

``blender_scripts.run_scene_script`` runs it inside Blender (``… -- FOLDER [NAME ...]``); it saves each scene, and in
``values.json`` what Blender says of it. Outside of Blender only the table ``CASES`` is read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.scenes import content_scenes, picture_scenes
from tests.support.scenes.scene_table import CASES, MAKERS, bpy

__all__ = ["CASES", "content_scenes", "picture_scenes"]


def values_in_blender():
    """What Blender says of the scene it has open, in the words of its own Python."""
    scene = bpy.context.scene
    render, picture = scene.render, scene.render.image_settings
    return {
        "version": list(bpy.app.version[:2]),
        "name": scene.name,
        "engine": render.engine,
        "format": picture.file_format,
        "resolution": [render.resolution_x, render.resolution_y, render.resolution_percentage],
        "border": [render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y],
        "use_border": render.use_border,
        "use_crop": render.use_crop_to_border,
        "frames": [scene.frame_start, scene.frame_end, scene.frame_step],
        "views": sum(view.use for view in render.views) if render.use_multiview else 1,
        "views_format": picture.views_format,
        "camera": scene.camera is not None,
        "simple": [curve.driver.is_simple_expression for item in bpy.data.objects if item.animation_data
                   for curve in item.animation_data.drivers],
        "stamp": render.use_stamp,
    }  # fmt: skip


def main(folder, names):
    values = {}
    for name in names or MAKERS:
        MAKERS[name]()
        path = folder / (CASES[name].get("file", name) + ".blend")
        bpy.ops.wm.save_as_mainfile(filepath=str(path), check_existing=False)
        values[name] = values_in_blender()
    (folder / "values.json").write_text(json.dumps(values))


if __name__ == "__main__":
    _folder, *_names = sys.argv[sys.argv.index("--") + 1 :]
    main(Path(_folder), _names)
