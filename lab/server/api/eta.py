"""When a project will be done, from the frames that arrived last. Pure."""

from __future__ import annotations

from collections.abc import Sequence

#: The pace is that of the last frames: PCs that came or went are soon believed.
PACE_FRAMES = 32
#: One frame is no pace.
LEAST_FRAMES = 2


def seconds_left(remaining: int, accepted_at: Sequence[float], began_at: float, now: float) -> float | None:
    """Seconds until ``remaining`` more frames are here; ``None`` while too few have come to tell.

    ``accepted_at`` are the times of the frames that are here, in any order, ``began_at`` that of the first grant; all
    are seconds since 1970.
    """
    if remaining == 0:
        return 0.0
    times = sorted(accepted_at)
    if len(times) < LEAST_FRAMES:
        return None
    since = began_at if len(times) <= PACE_FRAMES else times[-PACE_FRAMES - 1]
    return remaining * max(now - since, 0.001) / min(len(times), PACE_FRAMES)
