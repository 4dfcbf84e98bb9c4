"""Builds the demo scene: a few low-poly sheep, one of them jumping over a fence. Runs inside Blender.

    blender -b --factory-startup -P scene.py -- OUT.blend

Works in Blender 2.93 to 5.x: only calls that all of them have, or that are looked for first. Nothing here is random
but from a seeded generator, and nothing needs OpenImageDenoise, which Debian's Blender lacks.
"""

import math
import random
import sys
from pathlib import Path

import bpy
from mathutils import Vector

# Blender does not look for modules beside a script; and nothing is written where sheepfold is installed.
sys.path.insert(0, str(Path(__file__).parent))
sys.dont_write_bytecode = True

from solids import Mesh, material  # noqa: E402

FRAMES = 12
WIDTH, HEIGHT = 320, 180
SAMPLES = 16


def sheep_mesh(name, colours, rng, leap=0.0, grazing=False):
    """A sheep that looks along +x, its feet at z = 0. ``leap`` stretches its legs fore and aft."""
    wool, skin, white, black = colours
    mesh = Mesh(name)
    mesh.ball((0, 0, 0.78), (0.62, 0.43, 0.42), wool, rings=7, segments=10, jitter=0.06, rng=rng)
    for _ in range(34):
        around, up = rng.uniform(0, 2 * math.pi), rng.uniform(-0.55, 1.0)
        flat = math.sqrt(1 - min(1, up * up))
        centre = (0.56 * flat * math.cos(around), 0.38 * flat * math.sin(around), 0.79 + 0.36 * up)
        size = rng.uniform(0.15, 0.21)
        mesh.ball(centre, (size, size, size), wool, rings=4, segments=6, turn=rng.uniform(0, 1), jitter=0.1, rng=rng)
    head = Vector((0.86, 0, 0.42)) if grazing else Vector((0.80, 0, 1.12))
    tilt = 1.15 if grazing else 0.45
    if grazing:
        mesh.ball((0.66, 0, 0.62), (0.22, 0.18, 0.24), wool, rings=5, segments=7)
    mesh.ball(head, (0.25, 0.15, 0.17), skin, rings=6, segments=8, turn=tilt)
    cap = head + (Vector((-0.10, 0, 0.15)) if grazing else Vector((-0.08, 0, 0.14)))
    mesh.ball(cap, (0.16, 0.15, 0.12), wool, rings=4, segments=7, jitter=0.08, rng=rng)
    for side in (-1, 1):
        ear = head + Vector((-0.09, 0.22 * side, 0.04))
        mesh.ball(ear, (0.07, 0.13, 0.035), skin, rings=4, segments=6)
        eye = head + (Vector((0.06, 0.125 * side, 0.03)) if grazing else Vector((0.09, 0.115 * side, 0.05)))
        mesh.ball(eye, (0.052, 0.04, 0.052), white, rings=4, segments=7)
        mesh.ball(eye + Vector((0.025, 0.028 * side, 0)), (0.026, 0.02, 0.028), black, rings=4, segments=6)
        for front in (-1, 1):
            slant = -leap * front
            foot = Vector((0.34 * front + 0.22 * leap * front, 0.2 * side, 0.22 + 0.10 * leap))
            mesh.box(foot, (0.12, 0.12, 0.48), skin, turn=slant)
    mesh.ball((-0.66, 0, 0.86), (0.12, 0.10, 0.13), wool, rings=4, segments=6)
    return mesh


def place(made, where, heading=0.0, size=1.0):
    made.location = where
    made.rotation_euler = (0, 0, heading)
    made.scale = (size, size, size)
    return made


def ground_height(x, y):
    return 0.22 * math.sin(x * 0.35 + 1.0) * math.cos(y * 0.28) * min(1.0, max(0.0, (y - 1.5) / 4)) + max(
        0.0, (y - 9) * 0.16
    )


def meadow(rng):
    land(rng)
    blades(rng)
    flowers(rng)


def land(rng):
    greens = [
        material(f"grass {i}", c)
        for i, c in enumerate([(0.16, 0.34, 0.05), (0.20, 0.40, 0.07), (0.25, 0.44, 0.08), (0.30, 0.46, 0.10)])
    ]
    made = Mesh("meadow")
    columns, rows = 34, 26
    points = []
    for row in range(rows + 1):
        for column in range(columns + 1):
            x, y = -17 + 34 * column / columns, -6 + 32 * row / rows
            inner = 0 < row < rows and 0 < column < columns
            points.append(
                (
                    x + (rng.uniform(-0.3, 0.3) if inner else 0),
                    y + (rng.uniform(-0.3, 0.3) if inner else 0),
                    ground_height(x, y) + (rng.uniform(-0.05, 0.05) if inner else 0),
                )
            )
    for row in range(rows):
        for column in range(columns):
            a = row * (columns + 1) + column
            quad = (a, a + 1, a + columns + 2, a + columns + 1)
            for triangle in ((quad[0], quad[1], quad[2]), (quad[0], quad[2], quad[3])):
                made.add([points[i] for i in triangle], [(0, 1, 2)], rng.choice(greens))
    made.build()


def blades(rng):
    made = Mesh("blades")
    tips = [material("blade a", (0.24, 0.46, 0.06)), material("blade b", (0.36, 0.52, 0.11))]
    for _ in range(1500):
        x, y = rng.uniform(-7, 7), -3.4 + 9.5 * rng.random() ** 1.6
        tall, lean, turn = rng.uniform(0.10, 0.26), rng.uniform(-0.08, 0.08), rng.uniform(0, math.pi)
        wide = Vector((math.cos(turn), math.sin(turn), 0)) * 0.025
        foot = Vector((x, y, ground_height(x, y) - 0.02))
        made.add([foot - wide, foot + wide, foot + Vector((lean, lean, tall))], [(0, 1, 2)], rng.choice(tips))
    made.build()


def flowers(rng):
    made = Mesh("flowers")
    colours = {"daisy": (0.9, 0.88, 0.8), "poppy": (0.8, 0.10, 0.05), "butter": (0.95, 0.7, 0.05)}
    petals = [material(name, colour) for name, colour in colours.items()]
    for _ in range(70):
        x, y = rng.uniform(-6, 6), -3.0 + 8 * rng.random() ** 1.4
        size = rng.uniform(0.035, 0.06)
        centre = (x, y, ground_height(x, y) + 0.2)
        made.ball(centre, (size, size, size * 0.7), rng.choice(petals), rings=4, segments=6)
    made.build()


def fence():
    wood = [material("wood", (0.42, 0.24, 0.11)), material("pale wood", (0.52, 0.32, 0.16))]
    rail = Mesh("fence")
    for index in range(-2, 9):
        y = -1.9 + index * 1.35
        rail.box((0.02 * (index % 3), y, 0.45), (0.14, 0.14, 1.1), wood[index % 2], turn=0.05 * ((index % 3) - 1))
        for height, tilt in ((0.42, 0.02), (0.80, -0.03)):
            rail.box((-0.09, y + 0.67, height), (0.06, 1.36, 0.13), wood[(index + 1) % 2], turn=tilt, axis="X")
    rail.build()


def trees(rng):
    bark, crowns = (
        material("bark", (0.22, 0.12, 0.06)),
        [
            material(f"leaves {i}", c)
            for i, c in enumerate([(0.10, 0.26, 0.05), (0.15, 0.32, 0.06), (0.36, 0.30, 0.05)])
        ],
    )
    wood = Mesh("trees")
    stand = ((-9, 13, 1.5), (-6.4, 15, 1.9), (7.6, 12.5, 1.6), (10.5, 15, 2.1), (-12.5, 16, 2.2), (3.4, 17, 1.7))
    for x, y, size in stand:
        z = ground_height(x, y)
        wood.box((x, y, z + 0.6 * size), (0.22 * size, 0.22 * size, 1.3 * size), bark)
        crown = rng.choice(crowns)
        for dx, dz, r in ((0, 1.7, 0.85), (0.45, 1.35, 0.6), (-0.45, 1.4, 0.6), (0, 2.25, 0.55)):
            centre = (x + dx * size, y, z + dz * size)
            wood.ball(centre, (r * size,) * 3, crown, rings=5, segments=8, jitter=0.1, rng=rng)
    wood.build()


def flock(rng):
    wool, skin = material("wool", (0.86, 0.80, 0.70)), material("skin", (0.055, 0.045, 0.05), 0.6)
    dark = material("dark wool", (0.10, 0.075, 0.06))
    white, black = material("eye", (0.95, 0.95, 0.95), 0.3), material("pupil", (0.01, 0.01, 0.01), 0.2)
    colours, night = (wool, skin, white, black), (dark, skin, white, black)
    jumper = sheep_mesh("jumper", colours, rng, leap=0.75).build()
    leap(jumper)
    standing = [
        ("watcher", (3.0, 1.7, 0), math.pi * 0.95, 0.95, colours, False),
        ("grazer", (-2.9, 2.6, 0), math.pi * 0.10, 1.0, colours, True),
        ("black sheep", (1.5, 4.2, 0), math.pi * 1.15, 0.95, night, False),
        ("far grazer", (-5.3, 6.2, 0), math.pi * 0.8, 1.0, colours, True),
        ("lamb", (3.35, 0.15, 0), math.pi * 0.85, 0.55, colours, False),
        ("far watcher", (5.6, 7.2, 0), math.pi * 1.3, 1.0, colours, False),
    ]
    for name, where, heading, size, palette, grazing in standing:
        x, y, _ = where
        made = sheep_mesh(name, palette, rng, grazing=grazing).build()
        place(made, (x, y, ground_height(x, y)), heading, size)
        if name in ("watcher", "lamb"):
            bob(made)


def key(made, frame, location=None, rotation=None):
    if location is not None:
        made.location = location
        made.keyframe_insert("location", frame=frame)
    if rotation is not None:
        made.rotation_euler = rotation
        made.keyframe_insert("rotation_euler", frame=frame)


def leap(made):
    """Over the fence from left to right: a parabola with its top at frame 6.5, nose up and then down."""
    for frame in range(1, FRAMES + 1):
        t = (frame - 1) / (FRAMES - 1)
        height = 0.10 + 1.25 * (1 - (2 * t - 1) ** 2)
        key(made, frame, (-2.35 + 4.5 * t, -0.55, height), (0, -0.55 + 1.05 * t, 0.06))


def bob(made):
    """Moves it up and down once in every four frames."""
    x, y, z = made.location
    for frame in range(1, FRAMES + 1):
        up = 0.05 * abs(math.sin(math.pi * (frame - 1) / 4))
        key(made, frame, (x, y, z + up))


def light_and_camera(scene):
    sun = bpy.data.lights.new("sun", "SUN")
    sun.energy, sun.color, sun.angle = 4.2, (1.0, 0.80, 0.55), 0.03
    lamp = bpy.data.objects.new("sun", sun)
    lamp.rotation_euler = (math.radians(58), 0, math.radians(-52))
    scene.collection.objects.link(lamp)
    world = bpy.data.worlds.new("evening sky")
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    ramp, place_, split = (nodes.new(f"ShaderNode{kind}") for kind in ("ValToRGB", "TexCoord", "SeparateXYZ"))
    links.new(place_.outputs["Generated"], split.inputs[0])
    links.new(split.outputs["Z"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], nodes["Background"].inputs["Color"])
    low, high = ramp.color_ramp.elements
    low.position, low.color = 0.0, (1.0, 0.62, 0.32, 1)
    high.position, high.color = 0.32, (0.30, 0.55, 0.90, 1)
    nodes["Background"].inputs["Strength"].default_value = 0.75
    # No importance map: it would take longer to build than a frame to render, for a sky this smooth.
    world.cycles.sampling_method = "NONE"
    scene.world = world
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location = (0.55, -9.2, 2.05)
    camera.rotation_euler = (Vector((0.15, 1.2, 1.0)) - camera.location).to_track_quat("-Z", "Y").to_euler()
    camera.data.lens = 40
    scene.collection.objects.link(camera)
    scene.camera = camera


def render_settings(scene):
    render = scene.render
    render.engine = "CYCLES"
    render.resolution_x, render.resolution_y, render.resolution_percentage = WIDTH, HEIGHT, 100
    render.use_persistent_data = False
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGB"
    render.filepath = "//frames/"
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples = SAMPLES
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    cycles.seed = 7
    cycles.max_bounces = cycles.diffuse_bounces = 1
    cycles.glossy_bounces = cycles.transmission_bounces = 0
    cycles.caustics_reflective = cycles.caustics_refractive = False
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.frame_set(1)
    scene.view_settings.view_transform = "Filmic"
    scene.view_settings.look = "Medium High Contrast"
    scene.view_settings.exposure = 0.35


def build(target):
    rng = random.Random(2024)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    meadow(rng)
    fence()
    trees(rng)
    flock(rng)
    light_and_camera(scene)
    render_settings(scene)
    bpy.ops.wm.save_as_mainfile(filepath=target, compress=False)


build(sys.argv[sys.argv.index("--") + 1])
