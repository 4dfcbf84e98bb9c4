"""Runs inside Blender: saves the hostile scenes. ``blender -b -P hostile_scene.py -- FOLDER PICTURE OUTSIDE``.

``hostile.blend``   its text block runs when it is loaded with scripts allowed: the attack that the order's script names
``plain.blend``     no Python: shows the picture at an absolute path, and has a File Output node that writes outside
"""

from __future__ import annotations

import sys
from pathlib import Path

import bpy  # type: ignore[import-not-found]

FOLDER, PICTURE, OUTSIDE = (Path(argument) for argument in sys.argv[sys.argv.index("--") + 1 :])


def main() -> None:
    """Saves both."""
    _small(bpy.context.scene)
    text = bpy.data.texts.new("attack.py")
    text.write(Path(__file__).with_name("attacks.py").read_text())
    text.use_module = True
    _save("hostile")
    bpy.data.texts.remove(text)
    _show_picture()
    _write_outside(bpy.context.scene)
    _save("plain")


def _small(scene: bpy.types.Scene) -> None:
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 1
    scene.cycles.use_denoising = False
    scene.render.resolution_x = scene.render.resolution_y = 16
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"


def _show_picture() -> None:
    """The whole frame is the picture."""
    nodes = bpy.context.scene.world.node_tree.nodes if bpy.context.scene.world.use_nodes else None
    if nodes is None:
        bpy.context.scene.world.use_nodes = True
        nodes = bpy.context.scene.world.node_tree.nodes
    image = bpy.data.images.load(str(PICTURE))
    texture = nodes.new("ShaderNodeTexEnvironment")
    texture.image = image
    bpy.context.scene.world.node_tree.links.new(texture.outputs["Color"], nodes["Background"].inputs["Color"])
    for item in list(bpy.data.objects):
        if item.type == "MESH":
            bpy.data.objects.remove(item)


def _write_outside(scene: bpy.types.Scene) -> None:
    scene.use_nodes = True
    node = scene.node_tree.nodes.new("CompositorNodeOutputFile")
    node.base_path = str(OUTSIDE)
    layers = next(found for found in scene.node_tree.nodes if found.type == "R_LAYERS")
    scene.node_tree.links.new(layers.outputs["Image"], node.inputs[0])


def _save(name: str) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(FOLDER / f"{name}.blend"), compress=False)


main()
