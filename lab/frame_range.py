"""Frame ranges as people write them: ``1-100,120`` or ``1-100x5``. Pure."""

from __future__ import annotations

import re

from .errors import BadFrameRange

#: Blender's own last frame number.
MAX_FRAME = 1_048_574
#: More frames than this in one project is a typing mistake.
MAX_FRAMES = 100_000
_MAX_TEXT = 10_000

_PART = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?:x(\d{1,9}))?)?", re.ASCII)


def parse_frames(text: str) -> tuple[int, ...]:
    """The frame numbers of ``1-100,120`` or ``1-100x5``, ascending, each once.

    Raises :class:`BadFrameRange`, which names the piece that is wrong.
    """
    if not text.strip():
        raise BadFrameRange(text, "no frame is named")
    if len(text) > _MAX_TEXT:
        raise BadFrameRange(text, f"longer than {_MAX_TEXT} characters")
    frames: set[int] = set()
    for part in text.split(","):
        span = _span(part.strip())
        if len(span) + len(frames) > MAX_FRAMES:
            raise BadFrameRange(part, f"more than {MAX_FRAMES} frames")
        frames.update(span)
    return tuple(sorted(frames))


def _span(part: str) -> range:
    match = _PART.fullmatch(part)
    if match is None:
        raise BadFrameRange(part, "a frame is a number (7), a range (1-100) or a range with a step (1-100x5)")
    first = int(match[1])
    last = int(match[2] or first)
    step = int(match[3] or 1)
    if last < first:
        raise BadFrameRange(part, f"{last} comes before {first}")
    if step == 0:
        raise BadFrameRange(part, "a step is at least 1")
    if last > MAX_FRAME:
        raise BadFrameRange(part, f"Blender's last frame is {MAX_FRAME}")
    return range(first, last + 1, step)


def frame_text(number: int) -> str:
    """A frame number as it travels: ``0007``, ``12345``."""
    return f"{number:04d}"


def frame_number(text: str) -> int | None:
    """The number of a frame that is written exactly as :func:`frame_text` writes it, else ``None``."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    number = int(text)
    return number if frame_text(number) == text else None
