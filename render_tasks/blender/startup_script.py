"""The Python that Blender runs before a frame: the server's script, then our own lines. Pure.

Both travel in the one file that ``-P`` names. The server's script stands in a file of its own and is run from there, so
that it may be wrong from its first line to its last (a 2.7x script in a newer Blender is) and ours run even so. Ours
set where temporary files go and what to compute with, in the API of whatever Blender this is, and change nothing about
the picture: choosing the CPU is what a Blender without a GPU does anyway.

File Output nodes are muted: what they write stays on this PC, beside a scene that is kept by its MD5 and has to stay as
it came.
"""

from __future__ import annotations

from pathlib import Path

_TEMPLATE = """\
import traceback

_server = {server_script!r}
try:
    with open(_server, encoding="utf-8") as _file:
        exec(compile(_file.read(), _server, "exec"), {{"__name__": "__main__", "__file__": _server}})
except Exception:
    traceback.print_exc()

import bpy

print("{scene_mark}" + getattr(getattr(bpy.context, "scene", None), "name", ""))


def _preferences():
    return getattr(bpy.context, "preferences", None) or bpy.context.user_preferences  # 2.80 renamed them


def _use(kind, device):
    \"\"\"Cycles computes with this kind of device; false where this Blender or PC has none of it.\"\"\"
    preferences = _preferences()
    addon = preferences.addons.get("cycles")
    if addon is None or not hasattr(addon.preferences, "compute_device_type"):
        if hasattr(preferences, "system") and hasattr(preferences.system, "compute_device_type"):  # before 2.78
            preferences.system.compute_device_type = "NONE"
        return kind == "NONE"
    try:
        addon.preferences.compute_device_type = kind
    except TypeError:  # not one of this build's kinds
        return False
    if kind != "NONE":
        if hasattr(addon.preferences, "get_devices_for_type"):
            devices = list(addon.preferences.get_devices_for_type(kind))
        else:
            devices = [item for group in addon.preferences.get_devices() or () for item in group]
        for item in devices:
            item.use = item.type == kind
        if not any(item.type == kind for item in devices):
            return False
    for scene in bpy.data.scenes:
        if hasattr(scene, "cycles"):
            scene.cycles.device = device
    return True


def _compositors(scene):
    \"\"\"The compositor's node tree of a scene, and the groups in it.\"\"\"
    tree = getattr(scene, "compositing_node_group", None)  # 5.0 and later
    if tree is None and getattr(scene, "use_nodes", False):
        tree = getattr(scene, "node_tree", None)
    found = [tree] if tree else []
    for tree in found:
        groups = [getattr(node, "node_tree", None) for node in tree.nodes]
        found += [group for group in groups if group and group not in found]
    return found


for _scene in list(bpy.data.scenes):
    try:
        for _tree in _compositors(_scene):
            for _node in _tree.nodes:
                if _node.bl_idname == "CompositorNodeOutputFile" and not _node.mute:
                    _node.mute = True
    except Exception:
        traceback.print_exc()
try:
    _preferences().filepaths.temporary_directory = {temporary!r}
    for _kind in {kinds!r}:
        if _use(_kind, "CPU" if _kind == "NONE" else "GPU"):
            print("sheepfold: computing with " + ("the CPU" if _kind == "NONE" else _kind))
            break
except Exception:
    traceback.print_exc()
"""

#: Before the name of the scene that is rendered, in Blender's output.
SCENE_MARK = "sheepfold: rendering the scene "
_GPU_KINDS = ("OPTIX", "CUDA", "HIP", "METAL", "ONEAPI", "OPENCL")


def our_script(server_script: Path, temporary: Path, *, gpu: bool) -> str:
    """The file for ``-P``; ``server_script`` is where the server's own lines were written."""
    kinds = (*_GPU_KINDS, "NONE") if gpu else ("NONE",)
    return _TEMPLATE.format(
        server_script=str(server_script), temporary=str(temporary), kinds=kinds, scene_mark=SCENE_MARK
    )
