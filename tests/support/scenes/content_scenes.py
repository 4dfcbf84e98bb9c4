"""Scenes with other cameras, frames, simulations, compositors, code and names."""

from __future__ import annotations

from tests.support.scenes.scene_table import border, bpy, case, new_scene


# Cameras.
@case("camera-none", refused="no active camera")
def _no_camera():
    new_scene()
    bpy.data.objects.remove(bpy.data.objects["Camera"])


@case("camera-not-chosen", refused="no active camera")
def _camera_unset():
    new_scene().camera = None


@case("camera-by-marker", frame=6)
def _camera_by_marker():
    scene = new_scene()
    other = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
    other.location = (0, 0, 12)
    scene.collection.objects.link(other)
    scene.timeline_markers.new("first", frame=1).camera = bpy.data.objects["Camera"]
    scene.timeline_markers.new("second", frame=5).camera = other


@case("camera-orthographic")
def _orthographic():
    new_scene().camera.data.type = "ORTHO"


@case("camera-in-collection")
def _camera_in_collection():
    scene = new_scene()
    outer, inner = bpy.data.collections.new("outer"), bpy.data.collections.new("inner")
    scene.collection.children.link(outer)
    outer.children.link(inner)
    camera = bpy.data.objects["Camera"]
    camera.users_collection[0].objects.unlink(camera)
    inner.objects.link(camera)


@case("sequencer-without-camera")
def _sequencer():
    scene = new_scene()
    bpy.data.objects.remove(bpy.data.objects["Camera"])
    strip = scene.sequence_editor_create().sequences.new_effect("blue", "COLOR", 1, frame_start=1, frame_end=11)
    strip.color = (0.1, 0.2, 0.7)


@case("sequencer-with-region", refused="sequencer")
def _sequencer_region():
    _sequencer_scene = new_scene()
    border(_sequencer_scene, (0.25, 0.75, 0.2, 0.8), crop=False)
    _sequencer_scene.sequence_editor_create().sequences.new_effect("blue", "COLOR", 1, frame_start=1, frame_end=11)


# Frames; "own" asks submit for the scene's.
@case("frames-own-with-step", frame="own", frames=(3, 8))
def _own_frames():
    scene = new_scene()
    scene.frame_start, scene.frame_end, scene.frame_step = 3, 12, 5


@case("frames-own-one", frame="own", frames=(7,))
def _own_frame():
    scene = new_scene()
    scene.frame_start = scene.frame_end = 7


@case("frame-nought", frame=0)
def _nought():
    new_scene().frame_start = 0


@case("frame-hundred-thousand", frame=100000)
def _far():
    new_scene()


@case("frames-preview-range", frame="own", frames=(1, 2))
def _preview():
    scene = new_scene()
    scene.frame_end = 2
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 5, 6


# Simulations and their caches.
def cloth(scene):
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=8, y_subdivisions=8, size=4, location=(0, 0, 3))
    modifier = bpy.context.object.modifiers.new("Cloth", "CLOTH")
    scene.frame_end = modifier.point_cache.frame_end = 6
    return modifier


@case("cloth-unbaked", frame=6, warning="not baked: cloth on 'Grid'", differs=True)
def _cloth():
    cloth(new_scene())


@case("cloth-first-frame", frame=1)
def _cloth_first():
    cloth(new_scene())


@case("cloth-hidden", frame=6)
def _cloth_hidden():
    cloth(new_scene()).show_render = False


@case("cloth-baked", frame=6)
def _cloth_baked():
    cloth(new_scene())
    bpy.ops.ptcache.bake_all(bake=True)


@case("soft-body-unbaked", frame=6, warning="not baked: soft body on 'Cube'", differs=True)
def _soft_body():
    new_scene()
    bpy.data.objects["Cube"].modifiers.new("Softbody", "SOFT_BODY")


def particles(**settings):
    new_scene()
    cube = bpy.data.objects["Cube"]
    cube.modifiers.new("Particles", "PARTICLE_SYSTEM")
    part = cube.particle_systems[0].settings
    part.count, part.frame_end, part.display_size, part.render_type = 20, 3, 0.2, "HALO"
    for name, value in settings.items():
        setattr(part, name, value)
    return cube.particle_systems[0]


@case("particles-unbaked", frame=6, warning="not baked: particles on 'Cube'", differs=True)
def _particles():
    particles(physics_type="NEWTON")


@case("particles-still", frame=6)
def _particles_still():
    particles(physics_type="NO")


@case("hair", frame=6)
def _hair():
    particles(type="HAIR")


@case("hair-dynamics-unbaked", frame=6, warning="not baked: hair on 'Cube'", differs=True)
def _hair_dynamics():
    particles(type="HAIR").use_hair_dynamics = True


@case("rigid-bodies-unbaked", frame=6, warning="not baked: rigid bodies", differs=True)
def _rigid():
    new_scene()
    bpy.context.view_layer.objects.active = bpy.data.objects["Cube"]
    bpy.ops.rigidbody.object_add()


@case("rigid-bodies-passive", frame=6)
def _passive():
    _rigid()
    bpy.data.objects["Cube"].rigid_body.type = "PASSIVE"


@case("rigid-bodies-off", frame=6)
def _rigid_off():
    _rigid()
    bpy.context.scene.rigidbody_world.enabled = False


@case("dynamic-paint-unbaked", frame=6, warning="not baked: dynamic paint on 'Cube'", differs=True)
def _dynamic_paint():
    new_scene()
    bpy.context.view_layer.objects.active = bpy.data.objects["Cube"]
    modifier = bpy.data.objects["Cube"].modifiers.new("Dynamic Paint", "DYNAMIC_PAINT")
    bpy.ops.dpaint.type_toggle(type="CANVAS")
    assert modifier.canvas_settings.canvas_surfaces


# The compositor.
def compositor():
    scene = new_scene()
    scene.use_nodes = True
    return scene, scene.node_tree


def file_output(tree, source):
    node = tree.nodes.new("CompositorNodeOutputFile")
    node.base_path = "//passes/"
    tree.links.new(source, node.inputs[0])
    return node


@case("file-output", warning="File Output")
def _file_output():
    _scene, tree = compositor()
    file_output(tree, tree.nodes["Render Layers"].outputs[0])


@case("file-output-muted")
def _file_output_muted():
    _scene, tree = compositor()
    file_output(tree, tree.nodes["Render Layers"].outputs[0]).mute = True


@case("file-output-in-group", warning="File Output")
def _file_output_group():
    _scene, tree = compositor()
    group = bpy.data.node_groups.new("writes", "CompositorNodeTree")
    file_output(group, group.nodes.new("CompositorNodeRGB").outputs[0])
    tree.nodes.new("CompositorNodeGroup").node_tree = group


@case("compositor-without-layers")
def _no_layers():
    _scene, tree = compositor()
    bpy.data.objects.remove(bpy.data.objects["Camera"])
    tree.nodes.remove(tree.nodes["Render Layers"])
    colour = tree.nodes.new("CompositorNodeRGB")
    colour.outputs[0].default_value = (0.8, 0.2, 0.1, 1)
    tree.links.new(colour.outputs[0], tree.nodes["Composite"].inputs[0])


@case("compositor-off")
def _compositor_off():
    scene, tree = compositor()
    file_output(tree, tree.nodes["Render Layers"].outputs[0])
    scene.render.use_compositing = False


# Code and add-ons.
def driver(expression):
    new_scene()
    cube = bpy.data.objects["Cube"]
    cube.driver_add("location", 2).driver.expression = expression


@case("driver-simple", frame=6)
def _simple_driver():
    driver("sin(frame / 3) if frame > 2 else 0.25")


@case("driver-python", frame=6, warning="Python drivers")
def _python_driver():
    driver("len(str(frame)) * 0.5")


def text(registered):
    new_scene()
    block = bpy.data.texts.new("rig.py")
    block.write("import bpy\n")
    block.use_module = registered


@case("text-registered", warning="registered scripts")
def _text():
    text(True)


@case("text-plain")
def _plain_text():
    text(False)


@case("engine-of-an-addon", warning="SOMEONES_RENDERER", renders=False)
def _engine():
    scene = new_scene()
    kind = type("Engine", (bpy.types.RenderEngine,), {"bl_idname": "SOMEONES_RENDERER", "bl_label": "Someone's"})
    bpy.utils.register_class(kind)
    scene.render.engine = "SOMEONES_RENDERER"


@case("nodes-of-an-addon", warning="SomeonesTree")
def _nodes():
    new_scene()
    kind = type(
        "SomeonesTree", (bpy.types.NodeTree,), {"bl_idname": "SomeonesTree", "bl_label": "Theirs", "bl_icon": "NONE"}
    )
    bpy.utils.register_class(kind)
    bpy.data.node_groups.new("theirs", "SomeonesTree").use_fake_user = True


@case("text-burned-in", warning="burned into", differs=True)
def _burned_in():
    new_scene(320, 200).render.use_stamp = True


# Names of files.
for _name, _file in {
    "spaces": "a scene  of mine", "letters": "Szene äöü 日本 ß", "percent": "100% done", "dots": "v1.2.final",
    "signs": "it's (me) & you; #1 + [x] {y} = $z!", "dash": "-dash", "long": "n" * 150,
}.items():  # fmt: skip

    @case(f"name-{_name}", file=_file)
    def _named():
        new_scene()
