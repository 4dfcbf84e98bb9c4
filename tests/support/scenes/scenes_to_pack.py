"""Builds the scenes of test_packed_files.py. Runs inside Blender: blender -b -P scenes_to_pack.py -- FOLDER."""

import sys
import wave
from pathlib import Path

import bpy

FOLDER = Path(sys.argv[-1])
PROFILE = """IESNA:LM-63-1995\nTILT=NONE\n1 1000 1 5 1 1 2 0 0 0\n1.0 1.0 0
0 22.5 45 67.5 90\n0\n1000 300 1000 300 0\n"""


def new_scene(path, *, empty=False):
    """A tiny Cycles scene, saved, so that relative paths mean something."""
    bpy.ops.wm.read_factory_settings(use_empty=empty)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 48, 100
    scene.cycles.samples, scene.cycles.use_denoising = 2, False
    path.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return scene


def save():
    bpy.ops.wm.save_mainfile()


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = bpy.data.images.new("made", 8, 8)
    made.generated_color, made.filepath_raw, made.file_format = (1, 0, 0, 1), str(path), "PNG"
    made.save()
    bpy.data.images.remove(made)
    return str(path)


def profile(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PROFILE)


def cube_tree():
    return bpy.data.objects["Cube"].active_material.node_tree


def light_node(tree, stored, *, linked=True):
    node = tree.nodes.new("ShaderNodeTexIES")
    node.mode, node.filepath = "EXTERNAL", stored
    if linked:
        emission, place = tree.nodes.new("ShaderNodeEmission"), tree.nodes.new("ShaderNodeNewGeometry")
        tree.links.new(place.outputs["Position"], node.inputs[0])
        tree.links.new(node.outputs[0], emission.inputs[1])
        tree.links.new(emission.outputs[0], next(end for end in tree.nodes if not len(end.outputs)).inputs[0])
    return node


def texture(path, stored="", source="FILE", *, linked=True):
    image = bpy.data.images.load(path)
    image.source = source
    if stored:
        image.filepath = stored
    node = cube_tree().nodes.new("ShaderNodeTexImage")
    node.image = image
    if linked:
        cube_tree().links.new(node.outputs[0], cube_tree().nodes["Principled BSDF"].inputs["Base Color"])
    return image


def light():
    """One light profile in a material; its picture is compared."""
    folder = FOLDER / "light"
    new_scene(folder / "scene.blend")
    profile(FOLDER / "profiles" / "lamp.ies")
    light_node(cube_tree(), "//../profiles/lamp.ies")
    save()


def library_chain():
    """A library of a library, each in a folder of its own; the last has a light profile."""
    new_scene(FOLDER / "other" / "deep" / "b.blend", empty=True)
    profile(FOLDER / "other" / "deep" / "b.ies")
    made = bpy.data.materials.new("glow")
    made.use_nodes = made.use_fake_user = True
    light_node(made.node_tree, "//b.ies")
    save()
    scene = new_scene(FOLDER / "other" / "a.blend", empty=True)
    with bpy.data.libraries.load(str(FOLDER / "other" / "deep" / "b.blend"), link=True, relative=True) as (_, here):
        here.materials = ["glow"]
    mesh = bpy.data.meshes.new("lamp")
    mesh.materials.append(bpy.data.materials["glow"])
    scene.collection.objects.link(bpy.data.objects.new("lamp", mesh))
    save()


def link_lamp(library):
    with bpy.data.libraries.load(str(library), link=True, relative=True) as (_, here):
        here.objects = ["lamp"]
    return here.objects[0]


def kinds():
    """Every way to name a file, with names that only some systems keep."""
    library_chain()
    folder = FOLDER / "kinds"
    scene = new_scene(folder / "scene.blend")
    scene.collection.objects.link(link_lamp(FOLDER / "other" / "a.blend"))
    profile(folder / "m: x.ies")
    light_node(cube_tree(), "//m: x.ies")
    profile(FOLDER / "far away" / "absolute.ies")
    light_node(cube_tree(), str(FOLDER / "far away" / "absolute.ies"), linked=False)
    scene.world.use_nodes = True
    light_node(scene.world.node_tree, "//../far away/absolute.ies", linked=False)
    for number in (1, 2, 3):
        picture(folder / "seq" / f"f: {number:03}_L.png")
        picture(folder / "clip" / f"c{number:03}.png")
    texture(str(folder / "seq" / "f: 001_L.png"), "//seq/f: 001_L.png", "SEQUENCE")
    for number in (1001, 1002):
        picture(folder / "ud[1]" / f"t?.{number}.png")
    texture(str(folder / "ud[1]" / "t?.1001.png"), "//ud[1]/t?.<UDIM>.png", "TILED")
    texture(picture(FOLDER / "far away" / "new\nline.png"), linked=False)
    for name in ("Wood.png", "wood.png", "a*b.png", "n" * 200 + ".png", "木目 'dark'.png", "aux.png", "50%#1."):
        texture(picture(folder / name), linked=False)
    clip = bpy.data.movieclips.load(str(folder / "clip" / "c001.png"))
    scene.use_nodes = True
    scene.node_tree.nodes.new("CompositorNodeMovieClip").clip = clip
    for name in ("one.png", "two: x.png"):
        picture(folder / "strip" / name)
    strip = scene.sequence_editor_create().sequences.new_image("strip", str(folder / "strip" / "one.png"), 1, 1)
    strip.elements.append("two: x.png")
    strip.directory = "//strip/"
    soft_cache(FOLDER / "far away" / "soft")
    save()


def soft_cache(folder):
    """A cache that blender-asset-tracer knows nothing of."""
    folder.mkdir()
    (folder / "soft_000001_00.bphys").write_bytes(b"BPHYSICS")
    cache = bpy.data.objects["Cube"].modifiers.new("soft", "SOFT_BODY").point_cache
    cache.use_external, cache.filepath, cache.name = True, str(folder), "soft"


def missing():
    """One scene for each way to name a file that is not there."""
    folder = FOLDER / "missing"
    gone = folder / "gone.png"

    def begin(name):
        scene = new_scene(folder / f"{name}.blend")
        picture(gone)
        return scene

    begin("unused-image")
    bpy.data.images.load(str(gone)).use_fake_user = True
    save()
    begin("texture")
    texture(str(gone))
    save()
    begin("loose-node")
    texture(str(gone), linked=False)
    save()
    begin("camera-background")
    bpy.data.cameras[0].background_images.new().image = bpy.data.images.load(str(gone))
    save()
    scene = begin("muted-strip")
    scene.sequence_editor_create().sequences.new_image("strip", str(gone), 1, 1).mute = True
    save()
    scene = begin("played-strip")
    scene.sequence_editor_create().sequences.new_image("strip", str(gone), 1, 1)
    save()
    begin("unused-clip")
    bpy.data.movieclips.load(str(gone)).use_fake_user = True
    save()
    begin("profile")
    light_node(cube_tree(), "//gone.ies")
    save()
    sound(begin("sound"), folder / "gone.wav")
    missing_libraries(begin, folder)
    gone.unlink()


def sound(scene, path):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 8000)
    scene.sequence_editor_create().sequences.new_sound("take", str(path), 1, 1)
    save()
    path.unlink()


def missing_libraries(begin, folder):
    library = folder / "gone.blend"
    scene = new_scene(library, empty=True)
    scene.collection.objects.link(bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "SUN")))
    save()
    begin("unused-library")
    link_lamp(library).use_fake_user = True
    save()
    scene = begin("used-library")
    scene.collection.objects.link(link_lamp(library))
    save()
    library.unlink()


light()
kinds()
missing()
