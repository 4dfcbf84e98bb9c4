"""Pictures that clients uploaded are made small for the page.

This runs in a child (:mod:`lab.server.untrusted_files`): the file is a stranger's.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import OpenImageIO as oiio

from sheepfold.atomic_files import atomically_replaced
from sheepfold.errors import NotAPicture
from sheepfold.pictures import TASKS as PICTURE_TASKS
from sheepfold.pictures import layer_of, open_picture, read_rows, shown_channels

#: Pixels.
THUMB_WIDTH = 192


def make_thumbnail(picture: Path, thumb: Path, *, is_large: bool = True) -> None:
    """A small JPEG of a picture, in the colours of a screen; raises :class:`~sheepfold.errors.NotAPicture`.

    And :class:`~sheepfold.errors.LargeFile` for a large picture that may not be one.
    """
    pixels = _shrink(picture, is_large=is_large)
    small = oiio.ImageBuf(oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 3, "uint8"))
    small.set_pixels(oiio.ROI(), pixels)
    thumb.parent.mkdir(parents=True, exist_ok=True)
    small.specmod().attribute("compression", "jpeg:80")
    with atomically_replaced(thumb) as part:
        if not small.write(str(part)):
            raise NotAPicture(small.geterror() or "its thumbnail cannot be written")


def _shrink(path: Path, *, is_large: bool) -> np.ndarray:
    """The mean colour under each pixel of the thumbnail, from some rows at a time."""
    with open_picture(path, is_large=is_large) as reader:
        spec = reader.spec()
        channels = _shown_colours(tuple(str(name) for name in cast("list[object]", spec.channelnames)))
        is_linear = reader.format_name() in ("openexr", "hdr")
        width = min(THUMB_WIDTH, spec.width)
        height = max(1, round(spec.height * width / spec.width))
        columns = np.arange(width) * spec.width // width
        column_sizes = np.diff(columns, append=spec.width)[:, np.newaxis]
        sums, row_sizes = np.zeros((height, width, 3)), np.zeros((height, 1, 1))
        for top, samples in read_rows(reader):
            colours = np.clip(np.nan_to_num(samples[:, :, channels]), 0, 1)
            if is_linear:
                colours = _screen_colours(colours)
            rows = np.arange(top, top + len(samples)) * height // spec.height
            np.add.at(sums, rows, np.add.reduceat(colours, columns, axis=1) / column_sizes)
            np.add.at(row_sizes, rows, 1)
    return (sums / row_sizes).astype("float32")


def _shown_colours(names: tuple[str, ...]) -> list[int]:
    """Red, green and blue of the first layer that a person would look at; one channel three times where it is grey."""
    colours, _alphas = shown_channels(names)
    layer = [channel for channel in colours if layer_of(names[channel]) == layer_of(names[colours[0]])]
    return layer[:3] if len(layer) >= 3 else layer[:1] * 3


def _screen_colours(linear: np.ndarray) -> np.ndarray:
    """Linear light as sRGB."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def _thumbnail_task(picture: str, thumb: str, *, is_large: bool) -> None:
    make_thumbnail(Path(picture), Path(thumb), is_large=is_large)


TASKS = {**PICTURE_TASKS, "thumbnail": _thumbnail_task}
