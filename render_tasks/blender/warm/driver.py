"""Runs inside a warm Blender: renders one frame after the other, as it is told.

Started with ``-P driver.py`` in the Python of Blender 2.80 (Python 3.7) to 5.x, so it imports the standard library and
nothing of ours. What is said on which pipe stands in ``wire.py``.

A frame is rendered by ``bpy.ops.render.render(animation=True)`` over a range of one frame: the very function behind
``-f``, which names the file, pads the number and adds the extension. ``write_still`` would do none of these. The range
is the scene's own again before anything of the scene is looked at, for drivers may read it.

What must not differ from a Blender of the frame's own is put right before each frame: the output path, the camera (a
marker may have changed it) and persistent data, which one frame has no use of. What cannot be put right is *unsuited*:
simulations and all else that carries something from frame to frame.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import sys
import traceback
from collections.abc import Generator, Iterator
from typing import Any, BinaryIO

#: Engines whose frames were compared, pixel by pixel, with those of a Blender of their own.
ENGINES = ("CYCLES",)
#: Modifiers whose result depends on the frames before.
SIMULATIONS = frozenset(
    ("CLOTH", "DYNAMIC_PAINT", "EXPLODE", "FLUID", "FLUID_SIMULATION", "SMOKE", "SOFT_BODY", "PARTICLE_INSTANCE")
)
MAX_WHY = 500


class Driver:
    """Renders frames of the one scene that this Blender has open."""

    def __init__(self, bpy: Any) -> None:
        self._bpy = bpy
        self._scene = bpy.context.scene
        self._camera = self._scene.camera
        self._takes_a_range = {"frame_start", "frame_end"} <= set(
            bpy.ops.render.render.get_rna_type().properties.keys()
        )

    def render(self, frame: int, prefix: str) -> None:
        """One frame; raises RuntimeError with what Blender says."""
        scene = self._scene
        if self._bpy.context.scene != scene:
            raise RuntimeError("another scene is active")
        if scene.camera != self._camera:
            scene.camera = self._camera
        if scene.render.use_persistent_data:
            scene.render.use_persistent_data = False
        scene.render.filepath = prefix
        if scene.render.filepath != prefix:
            raise RuntimeError("the output path is too long for this Blender")
        if self._takes_a_range:
            done = self._bpy.ops.render.render(animation=True, frame_start=frame, frame_end=frame)
        else:
            with self._range_of_frame(frame):
                done = self._bpy.ops.render.render(animation=True)
        if "FINISHED" not in done:
            raise RuntimeError("the render was cancelled")

    @contextlib.contextmanager
    def _range_of_frame(self, frame: int) -> Generator[None]:
        """The scene's range is this frame until Blender has taken note of it."""
        scene, handlers = self._scene, self._bpy.app.handlers.render_init
        own = scene.frame_start, scene.frame_end

        def restore(*_: object) -> None:
            # In this order: a start behind the end takes the end along.
            scene.frame_start, scene.frame_end = own

        scene.frame_start = frame
        scene.frame_end = frame
        handlers.insert(0, restore)
        try:
            if (scene.frame_start, scene.frame_end) != (frame, frame):
                raise RuntimeError(f"frame {frame} is outside of what this Blender renders")
            yield
        finally:
            handlers.remove(restore)
            restore()

    def why_unsuited(self) -> str:
        """What makes a frame depend on those rendered before it; empty where nothing does."""
        for look in (self._engines, self._settings, self._simulations, self._movies):
            why = look()
            if why:
                return why
        return ""

    def _engines(self) -> str:
        scenes = [self._scene]
        tree = getattr(self._scene, "compositing_node_group", None) or getattr(self._scene, "node_tree", None)
        if tree is not None:
            scenes += [node.scene for node in tree.nodes if node.type == "R_LAYERS" and node.scene]
        others = [scene.render.engine for scene in scenes if scene.render.engine not in ENGINES]
        return f"engine {others[0]}" if others else ""

    def _settings(self) -> str:
        scene = self._scene
        editor = scene.sequence_editor
        # 4.4 calls them strips.
        strips = getattr(editor, "strips", None) or getattr(editor, "sequences", None)
        if scene.render.use_sequencer and strips:
            return "the video sequencer"
        if getattr(scene.render, "use_freestyle", False):
            return "Freestyle"
        if scene.rigidbody_world is not None:
            return "a rigid body world"
        return ""

    def _simulations(self) -> str:
        for group in self._bpy.data.node_groups:
            if any(node.bl_idname.startswith("GeometryNodeSimulation") for node in group.nodes):
                return f"a simulation in geometry nodes ({group.name})"
        for item in self._bpy.data.objects:
            if any(modifier.type in SIMULATIONS for modifier in item.modifiers):
                return f"a simulation ({item.name})"
            if any(system.settings.type != "HAIR" or system.use_hair_dynamics for system in item.particle_systems):
                return f"particles ({item.name})"
            if item.pose is not None and item.pose.ik_solver == "ITASC":
                return f"simulated inverse kinematics ({item.name})"
        return ""

    def _movies(self) -> str:
        """A movie is decoded from where the frame before left off."""
        data = self._bpy.data
        movies = [image.name for image in data.images if image.source == "MOVIE"]
        movies += [clip.name for clip in data.movieclips]
        return f"a movie ({movies[0]})" if movies else ""


class Wire:
    """Orders on standard input, replies on standard output."""

    def __init__(self) -> None:
        self._orders: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._replies = os.dup(1)
        # Whoever reads standard input from now on finds it empty, as in a Blender of the frame's own.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._word = str(json.loads(self._orders.readline())["word"])

    def orders(self) -> Iterator[Any]:
        """Until the node closes the pipe, or is no more."""
        for line in self._orders:
            yield json.loads(line)

    def reply(self, number: int, kind: str, why: str = "") -> None:
        """How a frame ended, after everything that was printed about it."""
        flush()
        said = json.dumps({"number": number, "kind": kind, "why": why[:MAX_WHY]})
        # One write: nothing that another thread prints comes between.
        self._send(("\n" + self._word + said + "\n").encode("ascii"))

    def _send(self, line: bytes) -> None:
        os.write(self._replies, line)


def flush() -> None:
    """Writes out what Python and Blender keep in buffers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)


def serve(driver: Driver, wire: Wire) -> None:
    """Frame after frame; returns when no more will be asked for."""
    unsuited = driver.why_unsuited()
    for order in wire.orders():
        if unsuited:
            wire.reply(order["number"], "unsuited", unsuited)
            continue
        try:
            driver.render(order["frame"], order["prefix"])
        except RuntimeError as error:
            wire.reply(order["number"], "failed", " ".join(str(error).split()))
        except Exception as error:
            traceback.print_exc()
            wire.reply(order["number"], "failed", f"{type(error).__name__} in the driver")
        else:
            wire.reply(order["number"], "done")


def main() -> None:
    """Serves until the node closes the pipe; ends the process."""
    serve(Driver(importlib.import_module("bpy")), Wire())
    flush()
    # No orderly end: there is nothing to keep, and it may take longer than a frame.
    os._exit(0)


if __name__ == "__main__":
    main()
