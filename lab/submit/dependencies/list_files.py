"""Lists the files that the open scene wants, and which of them a render of it uses.

Runs inside Blender:

    blender -b --factory-startup SCENE.blend -P list_files.py -- SCENE.blend ANSWER.json

Works in Blender 2.83 to 5.x: what only some of them have is looked for first. A file is used when its data-block can be
reached from the scene by what a render follows: not by brushes, screens, background pictures of cameras, nodes that
lead to no output, or muted strips. What is not sure counts as used.
"""

import json
import os
import sys
from pathlib import Path

import bpy

KINDS = {"FILE": "file", "MOVIE": "file", "SEQUENCE": "frames", "TILED": "tiles"}
#: Data-blocks whose own use of others no picture shows.
NEVER_RENDERED = ("Brush", "Palette", "PaintCurve", "Screen", "WorkSpace", "WindowManager", "Text", "Sound", "Library")
VIEWERS = ("VIEWER", "SPLITVIEWER")
#: Nodes that write files.
WRITERS = ("OUTPUT_FILE",)


def kind_of(item):
    return item.bl_rna.identifier


def is_image(item):
    return kind_of(item) in ("Image", "MovieClip")


def live_nodes(tree):
    """Names of the nodes that lead to an output."""
    before = {}
    for link in tree.links:
        if link.from_node and link.to_node:
            before.setdefault(link.to_node.name, set()).add(link.from_node.name)
    for node in tree.nodes:
        pair = getattr(node, "paired_output_node", None)
        if pair is not None:
            before.setdefault(pair.name, set()).add(node.name)
    waiting = [node.name for node in tree.nodes if not len(node.outputs) and node.type not in VIEWERS]
    live = set()
    while waiting:
        name = waiting.pop()
        if name not in live:
            live.add(name)
            waiting.extend(before.get(name, ()))
    return live


def ids_of_node(node):
    values = [getattr(node, prop.identifier, None) for prop in node.bl_rna.properties if prop.type == "POINTER"]
    values += [getattr(socket, "default_value", None) for socket in node.inputs]
    return {value for value in values if isinstance(value, bpy.types.ID)}


def tree_of(item):
    if isinstance(item, bpy.types.NodeTree):
        return item
    tree = getattr(item, "node_tree", None)
    return tree if isinstance(tree, bpy.types.NodeTree) else None


def split_tree(item):
    """What live nodes use, and what only others do."""
    tree = tree_of(item)
    if tree is None:
        return set(), set()
    uses_nodes = tree is item or getattr(item, "use_nodes", True)
    live = live_nodes(tree) if uses_nodes else set()
    used, unused = set(), set()
    for node in tree.nodes:
        (used if node.name in live else unused).update(ids_of_node(node))
    return used, unused - used


def strips_of(scene):
    editor = scene.sequence_editor
    if editor is None:
        return []
    return getattr(editor, "strips_all", None) or getattr(editor, "sequences_all", [])


def plays_strips(scene):
    return getattr(scene.render, "use_sequencer", True)


def followed(item, uses):
    """Of the data-blocks that ``item`` uses, those that a render follows."""
    kind = kind_of(item)
    uses = {used for used in uses if kind_of(used) not in NEVER_RENDERED}
    if kind == "Scene":
        shown = split_tree(item)[0]
        if plays_strips(item):
            shown |= {strip.clip for strip in strips_of(item) if getattr(strip, "clip", None) and not strip.mute}
        return {used for used in uses if not is_image(used)} | shown
    if kind == "Camera" or (kind == "Object" and item.type == "EMPTY"):
        return {used for used in uses if not is_image(used)}
    unused = {other for other in split_tree(item)[1] if is_image(other) or isinstance(other, bpy.types.NodeTree)}
    return uses - unused


def reached_from(scene):
    uses = {}
    for item, users in bpy.data.user_map().items():
        for user in users:
            uses.setdefault(user, set()).add(item)
    reached, waiting = set(), [scene]
    while waiting:
        item = waiting.pop()
        if item not in reached:
            reached.add(item)
            waiting.extend(followed(item, uses.get(item, ())))
    return reached


class Listing:
    """The files found so far, as the answer holds them."""

    def __init__(self):
        self.files = []
        self.reached = reached_from(bpy.context.scene)

    def add(self, owner, stored, kind="file", names=(), used=True):
        if not stored:
            return
        library = owner.library if owner is not None else None
        blend = bpy.path.abspath(library.filepath) if library else bpy.data.filepath
        path = os.path.normpath(bpy.path.abspath(stored, library=library))
        self.files.append(
            {"blend": blend, "stored": stored, "path": path, "kind": kind, "names": list(names), "used": bool(used)}
        )

    def data_blocks(self):
        for image in bpy.data.images:
            if image.source in KINDS and not image.packed_file and not len(getattr(image, "packed_files", ())):
                self.add(image, image.filepath_raw, KINDS[image.source], used=image in self.reached)
        for clip in bpy.data.movieclips:
            self.add(clip, clip.filepath, KINDS.get(clip.source, "file"), used=clip in self.reached)
        for font in bpy.data.fonts:
            if font.filepath != "<builtin>" and not font.packed_file:
                self.add(font, font.filepath, used=font in self.reached)
        for sound in bpy.data.sounds:
            if not sound.packed_file:
                self.add(sound, sound.filepath, used=False)
        self.sequences()

    def sequences(self):
        for volume in getattr(bpy.data, "volumes", ()):
            if not volume.packed_file:
                self.add(volume, volume.filepath, self.frames(volume), used=volume in self.reached)
        for cache in bpy.data.cache_files:
            self.add(cache, cache.filepath, self.frames(cache), used=cache in self.reached)
            for layer in getattr(cache, "layers", ()):
                self.add(cache, layer.filepath, self.frames(cache), used=cache in self.reached)

    def libraries(self):
        needed = {item.library for item in self.reached if item.library}
        for library in bpy.data.libraries:
            if not getattr(library, "packed_file", None):
                self.add(None, library.filepath, used=library in needed)

    @staticmethod
    def frames(item):
        return "frames" if item.is_sequence else "file"

    def nodes(self):
        for owner in self.with_nodes():
            tree = tree_of(owner)
            if tree is None:
                continue
            used = owner in self.reached and (tree is owner or getattr(owner, "use_nodes", True))
            live = live_nodes(tree) if used else set()
            for node in tree.nodes:
                for path in self.paths_of_node(node):
                    self.add(owner, path, used=node.name in live)

    @staticmethod
    def with_nodes():
        for name in ("materials", "worlds", "lights", "scenes", "textures", "linestyles", "node_groups"):
            yield from getattr(bpy.data, name)

    @staticmethod
    def paths_of_node(node):
        if node.type in WRITERS:
            return
        if getattr(node, "mode", "EXTERNAL") == "EXTERNAL":
            yield getattr(node, "filepath", "")
        for socket in node.inputs:
            if getattr(socket, "subtype", "") == "FILE_PATH" and not socket.is_linked:
                yield socket.default_value

    def strips(self):
        for scene in bpy.data.scenes:
            plays = plays_strips(scene) and scene in self.reached
            for strip in strips_of(scene):
                used = plays and not strip.mute
                if strip.type == "IMAGE":
                    names = [element.filename for element in strip.elements]
                    self.add(scene, strip.directory, "listed", names, used)
                elif strip.type == "MOVIE":
                    self.add(scene, strip.filepath, used=used)

    def caches(self):
        for item in bpy.data.objects:
            used = item in self.reached
            for modifier in item.modifiers:
                self.modifier(item, modifier, used)
            for system in item.particle_systems:
                self.point_cache(item, system.point_cache, used)
        for scene in bpy.data.scenes:
            world = scene.rigidbody_world
            if world is not None and world.point_cache:
                self.point_cache(scene, world.point_cache, scene in self.reached)

    def modifier(self, item, modifier, used):
        if modifier.type == "MESH_CACHE":
            self.add(item, modifier.filepath, used=used)
        elif modifier.type == "OCEAN" and modifier.is_cached:
            self.add(item, modifier.filepath, "folder", used=used)
        elif modifier.type == "FLUID" and modifier.fluid_type == "DOMAIN":
            settings = modifier.domain_settings
            baked = any(getattr(settings, "has_cache_baked_" + what, False) for what in ("data", "mesh", "any"))
            self.add(item, settings.cache_directory, "folder", used=used and baked)
        elif modifier.type == "NODES":
            for place in [modifier, *getattr(modifier, "bakes", ())]:
                for name in ("bake_directory", "simulation_bake_directory", "directory"):
                    self.add(item, getattr(place, name, ""), "folder", used=False)
        elif modifier.type == "DYNAMIC_PAINT" and modifier.canvas_settings:
            for surface in modifier.canvas_settings.canvas_surfaces:
                self.point_cache(item, surface.point_cache, used)
        elif getattr(modifier, "point_cache", None):
            self.point_cache(item, modifier.point_cache, used)

    def point_cache(self, item, cache, used):
        if cache.use_external:
            self.add(item, cache.filepath, "folder", used=used)
        elif cache.use_disk_cache:
            blend = item.library.filepath if item.library else bpy.data.filepath
            name = Path(blend).stem
            self.add(item, "//blendcache_" + name, "folder", used=used and cache.is_baked)

    def others(self):
        """What Blender's own list has beyond this one; its owner is not known."""
        known = {file["path"] for file in self.files}
        folders = {file["path"] for file in self.files if file["kind"] in ("folder", "listed")}
        folders |= {str(Path(file["path"]).parent) for file in self.files if file["kind"] in ("frames", "tiles")}
        known |= {self.plain(text.filepath) for text in bpy.data.texts if text.filepath}
        known |= {self.plain(brush.icon_filepath) for brush in bpy.data.brushes if getattr(brush, "icon_filepath", "")}
        for path in bpy.utils.blend_paths(absolute=True, packed=False, local=False):
            path = os.path.normpath(path)
            inside = any(path == folder or path.startswith(folder + os.sep) for folder in folders)
            if Path(path).is_absolute() and path not in known and not inside:
                known.add(path)
                self.add(None, path, used=False)

    @staticmethod
    def plain(path):
        return os.path.normpath(bpy.path.abspath(path))


def main():
    scene, answer = sys.argv[-2:]
    if os.path.realpath(bpy.data.filepath or os.sep) != os.path.realpath(scene):
        sys.exit("Blender could not open the scene")
    listing = Listing()
    for part in (listing.data_blocks, listing.libraries, listing.nodes, listing.strips, listing.caches, listing.others):
        part()
    with Path(answer).open("w", encoding="utf-8") as file:
        json.dump({"blender": bpy.app.version_string, "files": listing.files}, file)


main()
