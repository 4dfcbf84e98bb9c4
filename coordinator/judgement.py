"""May this picture go to the server? The account is disabled for broken frames, so what looks broken stays here.

A picture is broken when it cannot be read whole, when it has another size than the job's pictures have, or when it is
black or transparent while the nearest frames around it are not. A job whose every frame is black is no such case, nor
is a fade to black that has begun: only what stands out is held back. The size that most PCs agree on is the job's, so
that one PC that is wrong from the first frame on is outvoted.

What is known of a job is what arrived of it, kept in memory: after a restart it is learned again from the next frames.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .inspection import NotAPicture, Picture
from .leases import Lease

#: Jobs remembered; a farm works on a few at a time.
MAX_JOBS = 256


class BrokenPicture(Exception):
    """The picture must not go to the server; the text says what is wrong with it."""


@dataclass
class _Job:
    """What arrived of one revision of a job."""

    #: Size → the PCs that delivered it, broken pictures included; the first size stands first.
    sizes: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    #: Frame numbers that arrived, in order, and those of them with nothing on them.
    numbers: list[int] = field(default_factory=list)
    empty: set[int] = field(default_factory=set)

    def neighbours(self, number: int) -> list[int]:
        """The nearest frame before and the nearest after."""
        here = bisect_left(self.numbers, number)
        after = here + (here < len(self.numbers) and self.numbers[here] == number)
        return [*self.numbers[max(0, here - 1) : here], *self.numbers[after : after + 1]]


class Judge:
    """Looks at every picture before it may wait for the server. Thread-safe."""

    def __init__(self, inspect: Callable[[Path], Picture]) -> None:
        self._inspect = inspect
        self._jobs: OrderedDict[tuple[str, str], _Job] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, lease: Lease, path: Path) -> None:
        """Learns from a good picture; raises :class:`BrokenPicture` for one that stands out."""
        try:
            picture = self._inspect(path)
        except NotAPicture as error:
            raise BrokenPicture(str(error)) from None
        number = int(lease.offer.frame) if lease.offer.frame.isdecimal() else None
        with self._lock:
            job = self._job_of(lease)
            job.sizes.setdefault((picture.width, picture.height), set()).add(lease.node_id or "")
            _compare_size(picture, job)
            is_empty = picture.is_black or picture.is_transparent
            if number is not None:
                _compare_with_neighbours(picture, job, number)
                self._learn(job, number, is_empty=is_empty)

    def _job_of(self, lease: Lease) -> _Job:
        key = (lease.offer.job_id, lease.offer.revision)
        job = self._jobs.setdefault(key, _Job())
        self._jobs.move_to_end(key)
        while len(self._jobs) > MAX_JOBS:
            self._jobs.popitem(last=False)
        return job

    @staticmethod
    def _learn(job: _Job, number: int, *, is_empty: bool) -> None:
        if number not in job.numbers[bisect_left(job.numbers, number) :][:1]:
            insort(job.numbers, number)
        job.empty.discard(number)
        if is_empty:
            job.empty.add(number)


def _compare_size(picture: Picture, job: _Job) -> None:
    usual = max(job.sizes, key=lambda size: len(job.sizes[size]))
    if (picture.width, picture.height) != usual:
        raise BrokenPicture(
            f"the picture is {picture.width}x{picture.height}, the job's pictures are {usual[0]}x{usual[1]}"
        )


def _compare_with_neighbours(picture: Picture, job: _Job, number: int) -> None:
    if not (picture.is_black or picture.is_transparent):
        return
    neighbours = job.neighbours(number)
    if neighbours and not any(one in job.empty for one in neighbours):
        what = "black" if picture.is_black else "transparent"
        raise BrokenPicture(f"the picture is wholly {what}, and the frames next to it are not")
