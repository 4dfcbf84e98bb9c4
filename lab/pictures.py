"""Pictures: is this file one, how large, and does it show anything? Read with OpenImageIO, bounded in memory.

Everything here may take long and runs in a thread of its own, never on the server's event loop.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import OpenImageIO as oiio

from .errors import NotAPicture

#: 16k x 8k. Larger ones would cost gigabytes to decode.
MAX_PIXELS = 16_384 * 8_192
MAX_CHANNELS = 64
THUMB_WIDTH = 192
#: What a Blender render is saved as, and what files of each format are called.
_SUFFIXES = {
    "png": "png", "jpeg": "jpg", "openexr": "exr", "tiff": "tif", "targa": "tga", "bmp": "bmp", "hdr": "hdr",
    "webp": "webp", "jpeg2000": "jp2", "dpx": "dpx", "cineon": "cin", "sgi": "rgb",
}  # fmt: skip


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
    """Decode the whole picture; raises :class:`~lab.errors.NotAPicture`. Makes sure that it is on the disk."""
    kind = _kind(path)
    image = oiio.ImageBuf(str(path))
    spec = image.spec()
    if image.has_error or spec.width <= 0 or spec.height <= 0 or spec.nchannels <= 0:
        raise NotAPicture(f"the {kind} cannot be read: {_first_line(image)}")
    if spec.width * spec.height > MAX_PIXELS or spec.nchannels > MAX_CHANNELS:
        raise NotAPicture(f"the {kind} has {spec.width} x {spec.height} x {spec.nchannels} values, too many")
    if not image.read(force=True) or image.has_error:
        raise NotAPicture(f"the {kind} is damaged: {_first_line(image)}")
    picture = Picture(
        width=spec.full_width or spec.width,
        height=spec.full_height or spec.height,
        suffix=_SUFFIXES[kind],
        is_empty=_is_empty(image, spec),
    )
    _flush(path)
    return picture


def _kind(path: Path) -> str:
    """The file's format by its content; only formats a render can have are tried."""
    opened = oiio.ImageInput.open(str(path))
    if opened is None:
        raise NotAPicture(f"no picture: {(oiio.geterror() or 'unknown format').splitlines()[0][:200]}")
    kind = opened.format_name()
    opened.close()
    if kind not in _SUFFIXES:
        raise NotAPicture(f"no render is saved as {kind}")
    return kind


def _is_empty(image: oiio.ImageBuf, spec: oiio.ImageSpec) -> bool:
    stats = oiio.ImageBufAlgo.computePixelStats(image)
    if image.has_error:
        raise NotAPicture(f"the pixels cannot be read: {_first_line(image)}")
    highest = [-1.0 if value != value else value for value in stats.max]  # NaN shows nothing
    alpha = spec.alpha_channel
    colours = [value for channel, value in enumerate(highest) if channel != alpha]
    transparent = 0 <= alpha < len(highest) and highest[alpha] <= 0.0
    return transparent or not colours or max(colours) <= 0.0


def _first_line(image: oiio.ImageBuf) -> str:
    return ((image.geterror() if image.has_error else "") or "unknown reason").splitlines()[0][:200]


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def make_thumbnail(picture: Path, thumb: Path) -> None:
    """A small JPEG of a picture, in the colours of a screen; raises :class:`~lab.errors.NotAPicture`."""
    image = oiio.ImageBuf(str(picture))
    spec = image.spec()
    if image.has_error:
        raise NotAPicture(_first_line(image))
    if picture.suffix in (".exr", ".hdr"):
        image = oiio.ImageBufAlgo.colorconvert(image, "linear", "sRGB")
    width = min(THUMB_WIDTH, spec.width)
    height = max(1, round(spec.height * width / spec.width))
    small = oiio.ImageBufAlgo.resize(image, roi=oiio.ROI(0, width, 0, height, 0, 1, 0, spec.nchannels))
    small = oiio.ImageBufAlgo.channels(small, (0, 1, 2) if spec.nchannels >= 3 else (0, 0, 0))
    thumb.parent.mkdir(parents=True, exist_ok=True)
    making = thumb.with_name(f"{thumb.stem}.{os.getpid()}.{id(small)}.tmp.jpg")
    small.specmod().attribute("compression", "jpeg:80")
    if not small.write(str(making)):
        raise NotAPicture(_first_line(small))
    making.replace(thumb)
