"""Is it a picture, whole, and does it show anything? The same answer for the coordinator and for a server.

OpenImageIO reads every sample once, a few rows at a time, so that memory stays small however large the picture is; the
header is judged before the first of them, so that a small file can't ask for a huge picture. Two things it lets pass
are caught here: a JPEG that breaks off, which it reads to the end in grey with a note; and missing last bytes of PNG
and JPEG, which it never looks at once all rows are there. A TGA has no end mark: without all its rows it is refused.

Threads may inspect at the same time; OpenImageIO gives the interpreter lock away while it decodes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import OpenImageIO as oiio

from .errors import LargeFile, NotAPicture
from .units import bytes_text

#: Pixels along a side, pixels in all, channels: a 16k multilayer EXR is just below.
MAX_SIDE = 32_768
MAX_PIXELS = 16_384 * 16_384
MAX_CHANNELS = 1024
#: Parts of a multi-part EXR: one for each view, or for each layer and pass.
MAX_PARTS = 256
#: Bytes of all parts, decoded. A 4k frame with a hundred passes of 32 bits has 3.4 GB.
MAX_DECODED_BYTES = 8 * 1024**3
#: Above this a picture takes seconds: it is a large one.
LARGE_BYTES = 256 * 1024**2
#: Formats that OpenImageIO holds whole, with the bytes it needs for each sample (0: as many as the file's), and how
#: much it may need. Of every other it holds some rows; what needs more than its process has is no picture.
_HELD_WHOLE = {"targa": 0, "webp": 1, "jpeg2000": 4}
MAX_HELD_BYTES = 128 * 1024**2
#: Formats whose first part cannot be decoded any more once OpenImageIO has looked for a second one.
_READ_FORWARD = frozenset({"webp"})
#: What rows that are packed together, or lie in one row of tiles, may decode to.
MAX_BLOCK_BYTES = 64 * 1024**2
#: Decoded bytes held at a time; most frames fit whole.
CHUNK_BYTES = 16 * 1024 * 1024

#: OpenImageIO's name of what Blender writes → suffix. It knows more, and guesses by content whatever a file is called.
SUFFIXES = {
    "png": "png", "jpeg": "jpg", "openexr": "exr", "tiff": "tif", "targa": "tga", "bmp": "bmp", "hdr": "hdr",
    "webp": "webp", "jpeg2000": "jp2", "dpx": "dpx", "cineon": "cin", "sgi": "rgb",
}  # fmt: skip
#: How a JPEG 2000 without its box begins; such a file is called ``.j2c``.
_CODESTREAM = b"\xff\x4f\xff\x51"

#: What counts as no light, as a share of white on a screen: one step of 8 bits, which dithering leaves of black.
BLACK_UP_TO = 1 / 255
#: Floating point is linear light, and so dark a colour is this much steeper on a screen (sRGB).
LINEAR_TO_SCREEN = 12.92

#: The mark at the end of a whole file, somewhere in its last bytes.
_END_MARKS = {"png": b"IEND\xae\x42\x60\x82", "jpeg": b"\xff\xd9"}
_TAIL_BYTES = 4_096
#: Channel name → its place among a layer's colours.
_COLOURS = {
    "r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2, "y": 3, "l": 3, "i": 3, "luminance": 3,
}  # fmt: skip
_ALPHAS = frozenset({"a", "alpha"})

# Its own limit would count every channel of a multilayer frame; ours stands in :func:`_check_header`.
oiio.attribute("limits:imagesize_MB", MAX_PIXELS // (1024 * 1024) * MAX_CHANNELS * 4)
oiio.attribute("limits:resolution", MAX_SIDE)
oiio.attribute("limits:channels", MAX_CHANNELS)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is on a whole picture. Of a picture with parts, all that show the frame are looked at."""

    #: Pixels of the frame; an EXR may store fewer of them, or more.
    width: int
    height: int
    channels: int
    #: File suffix without dot, by what the file is and not by what it is called.
    suffix: str
    #: No colour anywhere; not-a-number counts as none.
    is_black: bool
    #: It has an alpha channel, and nothing in it.
    is_transparent: bool
    #: It shows nothing: every part is black or transparent.
    is_empty: bool
    #: Samples that are no number, or endless.
    not_finite: int = 0


def inspect(path: Path, *, is_large: bool = True) -> Picture:
    """What is on the picture; raises :class:`NotAPicture`, and :class:`LargeFile` where it may not be a large one.

    Whatever the decoder raises means that it is none: some of its errors are not even text.
    """
    try:
        return _inspect(path, is_large=is_large)
    except (NotAPicture, LargeFile, MemoryError):
        raise
    except Exception as error:
        raise NotAPicture(f"its decoder fails ({type(error).__name__})") from None


def _inspect(path: Path, *, is_large: bool) -> Picture:
    with open_picture(path, is_large=is_large) as reader:
        kind, spec = reader.format_name(), reader.spec()
        if (mark := _END_MARKS.get(kind)) and mark not in _tail(path):
            raise NotAPicture("it breaks off: its end mark is missing")
        parts = [_look_at_part(reader) for _ in _parts(reader)]
    shown = [part for part in parts if part.is_combined] or parts
    return Picture(
        width=spec.full_width or spec.width,
        height=spec.full_height or spec.height,
        channels=spec.nchannels,
        suffix=_suffix(path, kind),
        is_black=all(part.is_black for part in shown),
        is_transparent=all(part.is_transparent for part in shown),
        is_empty=all(part.is_black or part.is_transparent for part in shown),
        not_finite=sum(part.not_finite for part in parts),
    )


@contextmanager
def open_picture(path: Path, *, is_large: bool = True) -> Generator[oiio.ImageInput]:
    """The file at its first part, with the headers of all parts judged; raises as :func:`inspect` does."""
    reader = _opened(path)
    try:
        if reader.format_name() not in SUFFIXES:
            raise NotAPicture(f"{reader.format_name()} is not a format frames come in")
        decoded_bytes = sum(_checked_bytes(reader.spec(), reader.format_name()) for _ in _parts(reader))
        if decoded_bytes > MAX_DECODED_BYTES:
            raise NotAPicture(f"it decodes to {bytes_text(decoded_bytes)}, more than any frame")
        if decoded_bytes > LARGE_BYTES and not is_large:
            raise LargeFile
        if reader.format_name() in _READ_FORWARD:
            reader.close()
            reader = _opened(path)
        reader.seek_subimage(0, 0)
        yield reader
    finally:
        reader.close()


def _opened(path: Path) -> oiio.ImageInput:
    # Colours as they stand in the file: a PNG's would be multiplied with its alpha.
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    reader = oiio.ImageInput.open(str(path), config)
    if reader is None:
        raise NotAPicture(oiio.geterror() or "it cannot be opened")
    return reader


@dataclass(frozen=True, kw_only=True)
class _Part:
    #: It holds a combined pass: what a person sees of a multilayer frame.
    is_combined: bool
    is_black: bool
    is_transparent: bool
    not_finite: int


def _parts(reader: oiio.ImageInput) -> Iterator[int]:
    """The parts of a multi-part OpenEXR, one for each view or layer; every other picture has one."""
    for part in range(MAX_PARTS):
        if not reader.seek_subimage(part, 0):
            reader.geterror()  # it only says that there is no such part
            return
        yield part


def _look_at_part(reader: oiio.ImageInput) -> _Part:
    spec = reader.spec()
    floating = _is_floating(spec)
    highest, not_finite = np.zeros(spec.nchannels), 0
    for _top, samples in read_rows(reader, "float" if floating else spec.format):
        if floating:
            finite = np.isfinite(samples)
            not_finite += samples.size - int(np.count_nonzero(finite))
            samples[~finite] = 0
            np.abs(samples, out=samples)
        highest = np.maximum(highest, samples.reshape(-1, spec.nchannels).max(axis=0))
    white = 1 if floating else np.iinfo(str(spec.format)).max
    dark = BLACK_UP_TO / LINEAR_TO_SCREEN if floating else white * BLACK_UP_TO
    names = [str(name) for name in cast("list[object]", spec.channelnames)]
    colours, alphas = shown_channels(names)
    return _Part(
        is_combined=any(_is_combined(layer_of(name)) for name in names),
        is_black=bool((highest[colours] <= dark).all()),
        is_transparent=bool(alphas) and bool((highest[alphas] <= white * BLACK_UP_TO).all()),
        not_finite=not_finite,
    )


def _is_floating(spec: oiio.ImageSpec) -> bool:
    return spec.format.basetype in (oiio.HALF, oiio.FLOAT, oiio.DOUBLE)


def read_rows(reader: oiio.ImageInput, kind: str | oiio.TypeDesc = "float") -> Iterator[tuple[int, np.ndarray]]:
    """The current part's rows from top to bottom, about :data:`CHUNK_BYTES` at a time.

    Each as (first row counted from 0, samples of type ``kind``); raises :class:`NotAPicture`.
    """
    spec = reader.spec()
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
        yield top - spec.y, samples


def _checked_bytes(spec: oiio.ImageSpec, kind: str) -> int:
    """What a part decodes to; raises :class:`NotAPicture` for what no frame says of itself."""
    width, height, channels = spec.width, spec.height, spec.nchannels
    if width < 1 or height < 1 or channels < 1 or spec.depth > 1 or spec.deep:
        raise NotAPicture(f"a frame is flat and not empty, this is {width}x{height}x{spec.depth}, {channels} channels")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS or channels > MAX_CHANNELS:
        raise NotAPicture(f"{width}x{height} with {channels} channels is larger than any frame")
    samples, sample_bytes = width * height * channels, spec.format.size()
    held_bytes = samples * (_HELD_WHOLE[kind] or sample_bytes) if kind in _HELD_WHOLE else 0
    if held_bytes > MAX_HELD_BYTES:
        raise NotAPicture(
            f"{width}x{height} decodes to {bytes_text(held_bytes)}, more than is held of a {kind} picture"
        )
    # Rows that can only be decoded together; every floating point is read as one of 32 bits.
    rows = min(height, spec.tile_height or spec.get_int_attribute("oiio:RowsPerChunk", 1))
    block_bytes = width * channels * rows * (max(sample_bytes, 4) if _is_floating(spec) else sample_bytes)
    if block_bytes > MAX_BLOCK_BYTES:
        raise NotAPicture(f"{width}x{height} with {channels} channels has pieces of {bytes_text(block_bytes)}")
    return samples * sample_bytes


def layer_of(channel: str) -> str:
    """The lower-case name of a channel without its last word; empty for a plain ``R``."""
    return channel.lower().rpartition(".")[0]


def _is_combined(layer: str) -> bool:
    return "combined" in layer.split(".")


def shown_channels(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Which channels hold colour and which alpha, colours layer by layer from red to blue.

    Of a multilayer EXR only the combined passes count, if it has any.
    """
    layers = [layer_of(name) for name in names]
    kinds = [name.lower().rpartition(".")[2] for name in names]
    channels = range(len(names))
    shown = [channel for channel in channels if _is_combined(layers[channel])] or list(channels)
    alphas = [channel for channel in shown if kinds[channel] in _ALPHAS]
    colours = [channel for channel in shown if kinds[channel] in _COLOURS]
    colours.sort(key=lambda channel: (layers.index(layers[channel]), _COLOURS[kinds[channel]]))
    return colours or [channel for channel in shown if channel not in alphas] or list(channels), alphas


def _suffix(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return "j2c" if kind == "jpeg2000" and file.read(4) == _CODESTREAM else SUFFIXES[kind]


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read()


def _inspect_task(path: str, *, is_large: bool) -> dict[str, object]:
    return asdict(inspect(Path(path), is_large=is_large))


#: What a child does with pictures (:mod:`sheepfold.limited.child`).
TASKS = {"inspect": _inspect_task}
