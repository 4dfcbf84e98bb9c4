"""What a project may say of itself: the client that submits it and the server that takes it keep to the same rules."""

from __future__ import annotations

from enum import StrEnum

#: Lines that a person was told of a scene, and characters of each.
MAX_NOTES, MAX_NOTE = 100, 1000
#: Pictures that come back in the scene's own format; everything else becomes PNG.
KEPT_FORMATS = (
    "BMP", "PNG", "JPEG", "TARGA", "TARGA_RAW", "TIFF", "OPEN_EXR", "OPEN_EXR_MULTILAYER", "HDR", "DPX", "CINEON",
    "WEBP", "JPEG2000", "IRIS",
)  # fmt: skip


class Compute(StrEnum):
    """What a project may be rendered with."""

    CPU = "cpu"
    GPU = "gpu"
    EITHER = "either"
