"""Picture files for tests, of every kind OpenImageIO writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenImageIO as oiio


def write_picture(
    path: Path, channels: list[str], pixels: np.ndarray, *more: np.ndarray, other_channels: list[str] | None = None
) -> Path:
    """A picture by its suffix, floating point where the format has it; ``more`` are further parts of an OpenEXR, with
    ``other_channels`` where theirs differ."""
    parts = [pixels, *more]
    specs = []
    for number, part in enumerate(parts):
        spec = oiio.ImageSpec(
            part.shape[1], part.shape[0], part.shape[2], "float" if path.suffix == ".exr" else "uint8"
        )
        spec.channelnames = channels if number == 0 else other_channels or channels
        if more:
            spec.attribute("oiio:subimagename", f"part{number}")
        specs.append(spec)
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), tuple(specs)) if more else writer.open(str(path), specs[0]), writer.geterror()
    for number, part in enumerate(parts):
        assert number == 0 or writer.open(str(path), specs[number], "AppendSubimage"), writer.geterror()
        assert writer.write_image(part.astype("float32")), writer.geterror()
    writer.close()
    return path


def write_rows(path: Path, width: int, height: int, *, light_at: int | None = None) -> Path:
    """A black, grey picture of any size, written in parts; row ``light_at`` is white."""
    spec = oiio.ImageSpec(width, height, 1, "uint8")
    spec.attribute("png:compressionLevel", 1)
    writer = oiio.ImageOutput.create(str(path))
    assert writer.open(str(path), spec), writer.geterror()
    step = 1024
    for top in range(0, height, step):
        rows = np.zeros((min(step, height - top), width, 1), "uint8")
        if light_at is not None and top <= light_at < top + step:
            rows[light_at - top] = 255
        assert writer.write_scanlines(top, top + len(rows), 0, rows), writer.geterror()
    writer.close()
    return path


def pixels_of(path: Path) -> np.ndarray:
    """Rows, columns and channels, as floating point."""
    reader = oiio.ImageInput.open(str(path))
    assert reader, oiio.geterror()
    try:
        return np.asarray(reader.read_image("float"))
    finally:
        reader.close()
