"""Pictures: is this file one, how large, and does it show anything? Read with OpenImageIO, bounded in memory.

Everything here may take long and runs in a thread of its own, never on the server's event loop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

from lab.errors import NotAPicture

#: 16k x 8k. Larger ones would cost gigabytes to decode.
MAX_PIXELS = 16_384 * 8_192
#: A film's multilayer frame: a few view layers with forty passes each.
MAX_CHANNELS = 1024
#: Parts of a multi-part OpenEXR.
MAX_PARTS = 256
#: Decoded bytes held at a time.
CHUNK_BYTES = 16 * 1024 * 1024
THUMB_WIDTH = 192
#: What a Blender render is saved as, and what files of each format are called.
_SUFFIXES = {
    "png": "png", "jpeg": "jpg", "openexr": "exr", "tiff": "tif", "targa": "tga", "bmp": "bmp", "hdr": "hdr",
    "webp": "webp", "jpeg2000": "jp2", "dpx": "dpx", "cineon": "cin", "sgi": "rgb",
}  # fmt: skip


_LONG = {"r": "red", "g": "green", "b": "blue"}
#: How a JPEG 2000 without its box begins.
_CODESTREAM = b"\xff\x4f\xff\x51"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a picture file holds."""

    #: Pixels.
    width: int
    height: int
    #: File suffix without dot, by what the file is and not by what it is called.
    suffix: str
    #: Wholly black or wholly transparent.
    is_empty: bool


def inspect(path: Path) -> Picture:
    """Read every sample once, some rows at a time; raises :class:`~lab.errors.NotAPicture`. Makes sure that it is on
    the disk."""
    reader = oiio.ImageInput.open(str(path))
    if reader is None:
        raise NotAPicture(f"no picture: {(oiio.geterror() or 'unknown format').splitlines()[0][:200]}")
    try:
        kind, spec = reader.format_name(), reader.spec()
        if kind not in _SUFFIXES:
            raise NotAPicture(f"no render is saved as {kind}")
        empty = [_part_is_empty(reader, kind) for _ in _parts(reader)]
    finally:
        reader.close()
    picture = Picture(
        width=spec.full_width or spec.width,
        height=spec.full_height or spec.height,
        suffix=_suffix(path, kind),
        is_empty=all(empty),
    )
    _flush(path)
    return picture


def _parts(reader: oiio.ImageInput) -> Iterator[int]:
    """The parts of a multi-part OpenEXR, one for each view or layer; every other picture has one."""
    for part in range(MAX_PARTS):
        if not reader.seek_subimage(part, 0):
            reader.geterror()  # it only says that there is no such part
            return
        yield part


def _part_is_empty(reader: oiio.ImageInput, kind: str) -> bool:
    spec = reader.spec()
    if spec.width <= 0 or spec.height <= 0 or spec.nchannels <= 0 or spec.deep:
        raise NotAPicture(f"the {kind} holds no flat picture")
    if spec.width * spec.height > MAX_PIXELS or spec.nchannels > MAX_CHANNELS:
        raise NotAPicture(f"the {kind} has {spec.width} x {spec.height} x {spec.nchannels} values, too many")
    highest = np.full(spec.nchannels, -1.0)
    for samples in _rows(reader, spec, kind):
        highest = np.fmax(highest, np.fmax.reduce(samples.reshape(-1, spec.nchannels), axis=0))  # no NaN shows anything
    colours, alpha = shown_channels(spec)
    return bool(highest[colours].max() <= 0.0 or (alpha is not None and highest[alpha] <= 0.0))


def _rows(reader: oiio.ImageInput, spec: oiio.ImageSpec, kind: str) -> Iterator[np.ndarray]:
    step = max(1, CHUNK_BYTES // (spec.width * spec.nchannels * 4))
    if spec.tile_height:
        step = max(1, step // spec.tile_height) * spec.tile_height
    for top in range(spec.y, spec.y + spec.height, step):
        end = min(top + step, spec.y + spec.height)
        if spec.tile_width:
            left, right = spec.x, spec.x + spec.width
            samples = reader.read_tiles(left, right, top, end, spec.z, spec.z + 1, 0, spec.nchannels, "float")
        else:
            samples = reader.read_scanlines(top, end, spec.z, 0, spec.nchannels, "float")
        note = reader.geterror()
        if samples is None or note:
            raise NotAPicture(f"the {kind} is damaged: {(note or 'unknown reason').splitlines()[0][:200]}")
        yield samples


def shown_channels(spec: oiio.ImageSpec) -> tuple[list[int], int | None]:
    """The channels of the colours and the one of alpha: of a multilayer file, those of its first combined pass."""
    names = [name.lower() for name in spec.channelnames]
    layers = [name.rpartition(".")[0] for name in names]
    combined = next((layer for layer in layers if "combined" in layer.split(".")), None)
    shown = [channel for channel, layer in enumerate(layers) if combined in (None, layer)]
    alpha = next((channel for channel in shown if names[channel].rpartition(".")[2] in ("a", "alpha")), None)
    colours = [c for colour in "rgb" for c in shown if names[c].rpartition(".")[2] in (colour, _LONG[colour])]
    return colours[:3] or [channel for channel in shown if channel != alpha] or shown, alpha


def _suffix(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return "j2c" if kind == "jpeg2000" and file.read(4) == _CODESTREAM else _SUFFIXES[kind]


def _first_line(image: oiio.ImageBuf) -> str:
    return ((image.geterror() if image.has_error else "") or "unknown reason").splitlines()[0][:200]


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def make_thumbnail(picture: Path, thumb: Path) -> None:
    """A small JPEG of a picture, in the colours of a screen; raises :class:`~lab.errors.NotAPicture`."""
    image = oiio.ImageBuf(str(picture))
    if image.has_error:
        raise NotAPicture(_first_line(image))
    colours, _alpha = shown_channels(image.spec())
    # Three of them, before anything is computed: a multilayer frame has hundreds.
    image = oiio.ImageBufAlgo.channels(image, tuple(colours if len(colours) == 3 else colours[:1] * 3), ("R", "G", "B"))
    spec = image.spec()
    if picture.suffix in (".exr", ".hdr"):
        image = oiio.ImageBufAlgo.colorconvert(image, "linear", "sRGB")
    width = min(THUMB_WIDTH, spec.width)
    height = max(1, round(spec.height * width / spec.width))
    small = oiio.ImageBufAlgo.resize(image, roi=oiio.ROI(0, width, 0, height, 0, 1, 0, spec.nchannels))
    thumb.parent.mkdir(parents=True, exist_ok=True)
    making = thumb.with_name(f"{thumb.stem}.{os.getpid()}.{id(small)}.tmp.jpg")
    small.specmod().attribute("compression", "jpeg:80")
    if not small.write(str(making)):
        raise NotAPicture(_first_line(small))
    making.replace(thumb)


def why_refused(picture: Picture | None, width: int | None, height: int | None) -> str:
    """What is wrong with an upload, in one line for a person; ``None``: it was no picture. Sizes are the project's."""
    if picture is None:
        return "refused (302): what came is no picture"
    if width and (picture.width, picture.height) != (width, height):
        return f"refused (301): {picture.width} x {picture.height} pixels, not {width} x {height}"
    return "refused (301): it is all black, and other frames are not"
