"""What a .blend says about its pictures, read without Blender: size, format, views, frames, engine and what is missing.

Numbers and bits are those of Blender's own headers (DNA_scene_types.h and others; a file keeps them for ever). The
tests make scenes in Blender and compare every figure with what Blender says of them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lab.errors import UnreadableScene

from .blend_file import Blend, Block, open_blend
from .code import foreign_nodes, python_drivers, registered_texts
from .objects import has_camera, nodes_of, objects_of
from .simulations import Simulation, unbaked

_USES_BORDER, _CROPS = 1 << 9, 1 << 11  # RenderData.mode
_SEQUENCER, _COMPOSITING, _MULTIVIEW = 1 << 0, 1 << 6, 1 << 21  # RenderData.scemode
_BURNED_IN = 1 << 6  # RenderData.stamp
_NODE_MUTED = 1 << 9  # bNode.flag
_VIEW_OFF = 1 << 0  # SceneRenderView.viewflag
_SQUEEZED = 1 << 2  # Stereo3dFormat.flag
_SIDE_BY_SIDE, _TOP_BOTTOM = 3, 4  # Stereo3dFormat.display_mode
_SOUND_STRIPS = (4, 5)  # Sequence.type
_EXR = ("OPEN_EXR", "OPEN_EXR_MULTILAYER")

#: ImageFormatData.imtype, by the names that Blender's Python has for them.
FORMATS = {
    0: "TARGA", 1: "IRIS", 4: "JPEG", 7: "IRIS", 14: "TARGA_RAW", 15: "AVI_RAW", 16: "AVI_JPEG", 17: "PNG", 20: "BMP",
    21: "HDR", 22: "TIFF", 23: "OPEN_EXR", 24: "FFMPEG", 26: "CINEON", 27: "DPX", 28: "OPEN_EXR_MULTILAYER",
    30: "JPEG2000", 31: "FFMPEG", 32: "FFMPEG", 33: "FFMPEG", 35: "WEBP", 36: "FFMPEG", 37: "AVIF",
}  # fmt: skip
MOVIES = {"AVI_RAW", "AVI_JPEG", "FFMPEG"}


class Views(Enum):
    """How the views of a stereo or multi-view scene are written."""

    #: One picture.
    ONE = "one picture"
    #: Two pictures in one, as the scene's own stereo mode has it.
    STEREO = "stereo in one picture"
    #: All views in one OpenEXR.
    MULTIVIEW = "all views in one file"
    #: Left and right in files of their own.
    STEREO_FILES = "left and right in two files"
    #: More, or other, views in files of their own.
    VIEW_FILES = "a file for each view"


@dataclass(frozen=True, kw_only=True)
class SceneFacts:
    """Everything that is told, promised or decided about a scene before it is sent."""

    #: Of the Blender that wrote the file: (3, 4).
    version: tuple[int, int]
    #: Of the scene that Blender renders.
    name: str
    engine: str
    #: By Blender's name of it; empty for one that is not known here.
    format: str
    #: Pixels of a picture as the scene is set, before views are joined.
    width: int
    height: int
    #: The part of the picture that is rendered: left, right, bottom, top between 0 and 1; ``None`` for all of it.
    border: tuple[float, float, float, float] | None
    views: Views
    #: How often a picture grows in width and height for its two views.
    stereo_scale: tuple[int, int]
    first_frame: int
    last_frame: int
    frame_step: int
    has_camera: bool
    #: The pictures are the sequencer's.
    uses_sequencer: bool
    #: Names of the compositor's File Output nodes that write.
    file_outputs: tuple[str, ...]
    unbaked: tuple[Simulation, ...]
    python_drivers: tuple[str, ...]
    registered_texts: tuple[str, ...]
    foreign_nodes: tuple[str, ...]
    #: Date, host, render time and the like are written into the picture.
    burns_in_text: bool


def read_scene(blend: Path) -> SceneFacts:
    """The facts of the scene that Blender renders; raises :class:`~lab.errors.UnreadableScene`."""
    with open_blend(blend) as file:
        scene = file.active_scene()
        if scene is None:
            raise UnreadableScene(f"{blend.name} names no scene to render")
        return _facts(file, scene, blend.resolve().parent)


def _facts(file: Blend, scene: Block, folder: Path) -> SceneFacts:
    objects = objects_of(file, scene)
    tree = _compositor(scene)
    width, height, border = _size(scene)
    views, scale = _views(scene)
    sequencer = _uses_sequencer(scene)
    return SceneFacts(
        version=file.version,
        name=scene.name,
        engine=scene.text(b"r", b"engine"),
        format=FORMATS.get(scene.number(b"r", b"im_format", b"imtype"), ""),
        width=width,
        height=height,
        border=border,
        views=views,
        stereo_scale=scale,
        first_frame=scene.number(b"r", b"sfra", default=1),
        last_frame=scene.number(b"r", b"efra", default=1),
        frame_step=max(1, scene.number(b"r", b"frame_step", default=1)),
        has_camera=sequencer or _compositor_needs_no_scene(tree) or has_camera(scene),
        uses_sequencer=sequencer,
        file_outputs=tuple(node.text(b"name") for node in nodes_of(tree) if _writes_files(node)),
        unbaked=() if sequencer else unbaked(scene, objects, folder),
        python_drivers=python_drivers(file),
        registered_texts=registered_texts(file),
        foreign_nodes=foreign_nodes(file),
        burns_in_text=bool(scene.number(b"r", b"stamp") & _BURNED_IN),
    )


def _size(scene: Block) -> tuple[int, int, tuple[float, float, float, float] | None]:
    percent = scene.number(b"r", b"size", default=100)
    width, height = (scene.number(b"r", side) * percent // 100 for side in (b"xsch", b"ysch"))
    if not scene.number(b"r", b"mode") & _USES_BORDER:
        return width, height, None
    left, right, bottom, top = (scene.real(b"r", b"border", side) for side in (b"xmin", b"xmax", b"ymin", b"ymax"))
    if scene.number(b"r", b"mode") & _CROPS:
        width, height = cropped(width, left, right), cropped(height, bottom, top)
    return width, height, (left, right, bottom, top)


def cropped(side: int, low: float, high: float) -> int:
    """So many pixels Blender renders between two borders: it multiplies in single precision and drops the rest."""
    return int(_single(high * side)) - int(_single(low * side))


def _single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def _views(scene: Block) -> tuple[Views, tuple[int, int]]:
    wants_all = scene.number(b"r", b"views_format") == 1  # 0 is left and right
    views = [view for view in scene.listed(b"r", b"views") if not view.number(b"viewflag") & _VIEW_OFF]
    names = [view.text(b"name") for view in views if wants_all or view.text(b"name") in ("left", "right")]
    if not scene.number(b"r", b"scemode") & _MULTIVIEW or len(names) < 2:
        return Views.ONE, (1, 1)
    written = scene.number(b"r", b"im_format", b"views_format")
    if written == 2 and FORMATS.get(scene.number(b"r", b"im_format", b"imtype")) in _EXR:
        return Views.MULTIVIEW, (1, 1)
    if written == 1:
        return Views.STEREO, _stereo_scale(scene)
    return (Views.VIEW_FILES if wants_all else Views.STEREO_FILES), (1, 1)


def _stereo_scale(scene: Block) -> tuple[int, int]:
    path = (b"r", b"im_format", b"stereo3d_format")
    mode = scene.number(*path, b"display_mode")
    if scene.number(*path, b"flag") & _SQUEEZED:
        return 1, 1
    return (2 if mode == _SIDE_BY_SIDE else 1), (2 if mode == _TOP_BOTTOM else 1)


def _uses_sequencer(scene: Block) -> bool:
    editing = scene.follow(b"ed") if scene.number(b"r", b"scemode") & _SEQUENCER else None
    strips = editing.listed(b"seqbase") if editing else ()
    return any(strip.number(b"type") not in _SOUND_STRIPS for strip in strips)


def _compositor(scene: Block) -> Block | None:
    """The node tree that the picture goes through; since 5.0 it is a data-block of its own."""
    if not scene.number(b"r", b"scemode") & _COMPOSITING:
        return None
    return scene.follow(b"compositing_node_group") or (
        scene.follow(b"nodetree") if scene.number(b"use_nodes") else None
    )


def _compositor_needs_no_scene(tree: Block | None) -> bool:
    """Without a single render layer in it, its picture is made of other things."""
    if tree is None or tree.type == "ID":
        return False
    return not any(node.text(b"idname") == "CompositorNodeRLayers" for node in nodes_of(tree))


def _writes_files(node: Block) -> bool:
    return node.text(b"idname") == "CompositorNodeOutputFile" and not node.number(b"flag") & _NODE_MUTED
