"""May this picture go to the server? The account is disabled for broken frames, so what looks broken stays here.

A picture is broken when it cannot be read whole, when it has another size than the job's pictures have, or when it is
black or transparent while the nearest frames around it are not. A job whose every frame is black is no such case, nor
is a fade to black that has begun: the first frame of it that two PCs agree on is held back, and those behind it pass.
The size that most PCs agree on is the job's, so that one PC that is wrong from the first frame on is outvoted.

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


@dataclass(frozen=True, kw_only=True)
class _Looks:
    """What two PCs must agree on."""

    size: tuple[int, int]
    is_empty: bool


@dataclass
class _Job:
    """What arrived of one revision of a job."""

    #: Size → the PCs that delivered it, broken pictures included; the first size stands first.
    sizes: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    #: Frame numbers that arrived, in order, and those of them with nothing on them.
    numbers: list[int] = field(default_factory=list)
    empty: set[int] = field(default_factory=set)
    #: Frame → PC → how its picture looked, of pictures that were held back.
    held_back: dict[str, dict[str, _Looks]] = field(default_factory=dict)

    def neighbours(self, number: int) -> list[int]:
        """The nearest frame before and the nearest after."""
        here = bisect_left(self.numbers, number)
        after = here + (here < len(self.numbers) and self.numbers[here] == number)
        return [*self.numbers[max(0, here - 1) : here], *self.numbers[after : after + 1]]


class Judge:
    """Looks at every picture before it may wait for the server. Thread-safe.

    ``absolve`` is told of a lease whose picture may go after all, and whose earlier picture, which was held back, was
    the same: the PC that made that one was right.
    """

    def __init__(self, inspect: Callable[[Path], Picture], absolve: Callable[[Lease], None]) -> None:
        self._inspect, self._absolve = inspect, absolve
        self._jobs: OrderedDict[tuple[str, str], _Job] = OrderedDict()
        self._lock = threading.Lock()

    def judge(self, lease: Lease, path: Path) -> None:
        """Learns from a good picture; raises :class:`BrokenPicture` for one that stands out."""
        try:
            picture = self._inspect(path)
        except NotAPicture as error:
            raise BrokenPicture(str(error)) from None
        with self._lock:
            was_right = self._compare(self._job_of(lease), lease, picture)
        if was_right:
            self._absolve(lease)

    def _compare(self, job: _Job, lease: Lease, picture: Picture) -> bool:
        """Whether another PC was held back for the same picture before."""
        number = int(lease.offer.frame) if lease.offer.frame.isdecimal() else None
        looks = _Looks(size=(picture.width, picture.height), is_empty=picture.is_black or picture.is_transparent)
        earlier = job.held_back.setdefault(lease.offer.frame, {})
        agreed = any(node != lease.node_id and other == looks for node, other in earlier.items())
        job.sizes.setdefault(looks.size, set()).add(lease.node_id or "")
        try:
            _compare_size(picture, job)
            if number is not None:
                _compare_with_neighbours(picture, job, number)
        except BrokenPicture:
            earlier[lease.node_id or ""] = looks
            if agreed and number is not None:
                # Two PCs say so: this is how the scene looks, and the frames behind it may look like it.
                self._learn(job, number, is_empty=looks.is_empty)
            raise
        del job.held_back[lease.offer.frame]
        if number is not None:
            self._learn(job, number, is_empty=looks.is_empty)
        return agreed

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
