"""Is it a picture, whole, and is there anything on it?

OpenImageIO reads every sample once, a few rows at a time, so that memory stays small however large the picture is; the
header is judged before the first of them, so that a small file can't ask for a huge picture. Two things it lets pass
are caught here: a JPEG that breaks off, which it reads to the end in grey with a note; and missing last bytes of PNG
and JPEG, which it never looks at once all rows are there. A TGA has no end mark: without all its rows it is refused.

Threads may inspect at the same time; OpenImageIO gives the interpreter lock away while it decodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

#: Pixels along one side, pixels in all, channels: a 16k multilayer EXR is far below.
MAX_SIDE = 32_768
MAX_PIXELS = 16_384 * 16_384
MAX_CHANNELS = 1024
#: Parts of a multi-part EXR: one for each view, or for each layer and pass.
MAX_PARTS = 256
#: Bytes OpenImageIO itself may hold for one picture, as it must for interlaced PNG and progressive JPEG.
MAX_PICTURE_MB = 2_048
#: Formats of which it holds some rows at a time. A 4k frame with all passes decodes to more than the limit above.
_READ_BY_ROWS = frozenset({"openexr"})
#: Decoded bytes held at a time; most frames fit whole.
CHUNK_BYTES = 16 * 1024 * 1024

#: What Blender writes; OpenImageIO knows more, and guesses by content whatever the suffix says.
FORMATS = frozenset(
    {"png", "jpeg", "bmp", "targa", "openexr", "tiff", "webp", "hdr", "jpeg2000", "dpx", "cineon", "sgi"}
)

#: One step of 8 bits is what dithering leaves of black; floating point is not dithered.
BLACK_UP_TO = 1 / 255
BLACK_UP_TO_FLOAT = 1e-4

#: The mark at the end of a whole file, somewhere in its last bytes.
_END_MARKS = {"png": b"IEND\xae\x42\x60\x82", "jpeg": b"\xff\xd9"}
_TAIL_BYTES = 4_096
_COLOURS = frozenset({"r", "g", "b", "y", "l", "i", "red", "green", "blue", "luminance"})
_ALPHAS = frozenset({"a", "alpha"})

# Its own limit would count every channel of a multilayer frame; ours stands in :func:`_judge_header`.
oiio.attribute("limits:imagesize_MB", MAX_PIXELS // (1024 * 1024) * MAX_CHANNELS * 4)
oiio.attribute("limits:resolution", MAX_SIDE)
oiio.attribute("limits:channels", MAX_CHANNELS)


class NotAPicture(Exception):
    """The file is no whole picture that the farm could hand on."""

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())[:300]
        super().__init__(f"not a picture: {self.reason}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is on a whole picture."""

    #: Pixels.
    width: int
    height: int
    channels: int
    #: OpenImageIO's name of the format: ``png``, ``jpeg``, ``openexr``, ``targa``, ``bmp``, …
    format: str
    #: No colour anywhere; not-a-number counts as none.
    is_black: bool
    #: It has an alpha channel, and nothing in it.
    is_transparent: bool
    #: Samples that are no number, or endless.
    not_finite: int = 0


def inspect(path: Path) -> Picture:
    """What is on the picture; raises :class:`NotAPicture`."""
    # Colours as they stand in the file: a PNG's would be multiplied with its alpha.
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    reader = oiio.ImageInput.open(str(path), config)
    if reader is None:
        raise NotAPicture(oiio.geterror() or "it cannot be opened")
    try:
        spec, kind = reader.spec(), reader.format_name()
        if kind not in FORMATS:
            raise NotAPicture(f"{kind} is not a format frames come in")
        if (mark := _END_MARKS.get(kind)) and mark not in _tail(path):
            raise NotAPicture("it breaks off: its end mark is missing")
        found = [_look_at_part(reader, kind) for _ in _parts(reader)]
    finally:
        reader.close()
    return Picture(
        width=spec.width,
        height=spec.height,
        channels=spec.nchannels,
        format=kind,
        is_black=all(part.is_black for part in found),
        is_transparent=all(part.is_transparent for part in found),
        not_finite=sum(part.not_finite for part in found),
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    is_black: bool
    is_transparent: bool
    not_finite: int


def _parts(reader: oiio.ImageInput) -> Iterator[int]:
    for part in range(MAX_PARTS):
        if not reader.seek_subimage(part, 0):
            reader.geterror()  # it only says that there is no such part
            return
        yield part


def _look_at_part(reader: oiio.ImageInput, kind: str) -> _Part:
    spec = reader.spec()
    _judge_header(spec, kind)
    floating = spec.format.basetype in (oiio.HALF, oiio.FLOAT, oiio.DOUBLE)
    highest, not_finite = np.zeros(spec.nchannels), 0
    for samples in _chunks(reader, spec, "float" if floating else spec.format):
        if floating:
            finite = np.isfinite(samples)
            not_finite += samples.size - int(np.count_nonzero(finite))
            samples = np.abs(np.where(finite, samples, 0))
        highest = np.maximum(highest, samples.reshape(-1, spec.nchannels).max(axis=0))
    limit = BLACK_UP_TO_FLOAT if floating else np.iinfo(str(spec.format)).max * BLACK_UP_TO
    colours, alpha = _roles(spec)
    return _Part(
        is_black=bool((highest[colours] <= limit).all()),
        is_transparent=alpha is not None and bool(highest[alpha] <= limit),
        not_finite=not_finite,
    )


def _judge_header(spec: oiio.ImageSpec, kind: str) -> None:
    width, height, channels = spec.width, spec.height, spec.nchannels
    if width < 1 or height < 1 or channels < 1 or spec.depth > 1 or spec.deep:
        raise NotAPicture(f"a frame is flat and not empty, this is {width}x{height}x{spec.depth}, {channels} channels")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS or channels > MAX_CHANNELS:
        raise NotAPicture(f"{width}x{height} with {channels} channels is larger than any frame")
    megabytes = width * height * channels * spec.format.size() / (1024 * 1024)
    if kind not in _READ_BY_ROWS and megabytes > MAX_PICTURE_MB:
        raise NotAPicture(
            f"{width}x{height} with {channels} channels decodes to {megabytes:.0f} MB, more than any {kind} frame"
        )


def _chunks(reader: oiio.ImageInput, spec: oiio.ImageSpec, kind: str | oiio.TypeDesc) -> Iterator[np.ndarray]:
    row_bytes = spec.width * spec.nchannels * (4 if kind == "float" else spec.format.size())
    step = max(1, CHUNK_BYTES // row_bytes)
    if spec.tile_height:
        step = max(1, step // spec.tile_height) * spec.tile_height
    left, right, bottom = spec.x, spec.x + spec.width, spec.y + spec.height
    for top in range(spec.y, bottom, step):
        end = min(top + step, bottom)
        if spec.tile_width:
            samples = reader.read_tiles(left, right, top, end, spec.z, spec.z + 1, 0, spec.nchannels, kind)
        else:
            samples = reader.read_scanlines(top, end, spec.z, 0, spec.nchannels, kind)
        # Some formats give what they could read, and say in a note that it was not all.
        note = reader.geterror()
        if samples is None or note:
            raise NotAPicture(note or "its pixels cannot be read")
        yield samples


def _roles(spec: oiio.ImageSpec) -> tuple[list[int], int | None]:
    """Which channels hold colour and which one alpha. A multilayer EXR is judged by its combined pass if it has one."""
    layers = [name.lower().rsplit(".", 1)[0] for name in spec.channelnames]
    kinds = [name.lower().rsplit(".", 1)[-1] for name in spec.channelnames]
    every = range(spec.nchannels)
    shown = [one for one in every if layers[one].endswith("combined")] or list(every)
    colours = [one for one in shown if kinds[one] in _COLOURS]
    alphas = [one for one in shown if kinds[one] in _ALPHAS]
    return colours or [one for one in every if one not in alphas] or list(every), alphas[0] if alphas else None


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read()
