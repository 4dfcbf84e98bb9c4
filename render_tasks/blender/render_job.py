"""What one render is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .sandbox.sandbox import Sandbox

#: The picture's name in the output folder begins with this.
PREFIX = "frame_"


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """All one render needs to know."""

    renderer: Path
    #: Of the renderer's archive, lower-case hex.
    renderer_md5: str
    #: Of the scene's archives (:func:`sheepfold.contract.orders.scene_key`).
    scene_key: str
    #: The job's, as the server wrote it.
    revision: str
    scene: Path
    #: All that was unpacked with it; the renderer sees it, and changes nothing there.
    scene_folder: Path
    command_line: str
    script: str
    frame: str
    update_method: str
    gpu: bool
    #: Threads the renderer may use; ``None``: as many as it finds.
    cores: int | None
    time_limit_s: float | None
    #: Most that the renderer's process tree may hold, kB; ``None``: no limit of ours.
    memory_limit_kb: int | None
    scratch: Path
    #: What keeps the renderer in.
    sandbox: Sandbox
    #: The frame measures this PC: a renderer of its own, from start to exit.
    is_test: bool = False
    #: It is rendered a second time, to be compared: a renderer of its own, which no frame before it can have upset.
    is_second_opinion: bool = False


@dataclass(frozen=True, kw_only=True)
class RenderedFrame:
    """A picture, still in the scratch folder."""

    picture: Path
    #: Wall seconds from renderer start to exit; of a renderer that was open already, from the order to the picture.
    render_s: float
    #: Peak of Blender's own count and the process tree, kB.
    memory_kb: int
    #: Monotonic seconds: the renderer was told to begin, and its picture was there.
    began_at: float
    picture_at: float
