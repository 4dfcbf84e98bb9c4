"""May this picture go to the server? The account is disabled for broken frames, so what looks broken stays here.

A picture is broken when it cannot be read whole or has another size than the job's pictures have. The size that most
PCs agree on is the job's, so that one PC that is wrong from the first frame on is outvoted.

A picture that is black or transparent while the nearest frames around it are not is *doubtful*: a broken GPU makes
such, and so does a film (a blink, a cut to black). It is held back until it was rendered a second time, by another PC
or, where there is none, by the same one with a fresh renderer. Two that agree are how the scene looks. The frames next
to an empty one may be empty too, so of a film that ends in black only the first frame is rendered twice; pictures that
were held back meanwhile are vouched for (:meth:`FrameValidator.vouches_for`) by the one that is believed. A job whose
every frame is black raises no doubt.

What is known of a job is what arrived of it, kept in memory. Which frames were empty is recalled from the ledger when
the first empty one comes after a restart; sizes are learned again. The picture that was held back, and by whom, stands
in its lease (:class:`coordinator.leases.lease.HeldBack`).
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.leases.lease import Delivery, Lease
from coordinator.leases.recent_jobs import RecentJobs
from sheepfold.errors import NotAPicture
from sheepfold.pictures import Picture

from .errors import BrokenPicture

#: Jobs remembered; a farm works on a few at a time.
MAX_JOBS = 256


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a picture that is whole and has the right size."""

    #: Wholly black or transparent.
    is_empty: bool = False
    #: It is empty and may be: it was rendered twice, or the frames next to it are empty too.
    is_confirmed: bool = False
    #: Why it must not go to the server before a second one agrees; empty: it may go.
    doubt: str = ""


@dataclass
class _Job:
    """What arrived of one revision of a job."""

    #: Size → the PCs that delivered it, broken pictures included; the first size stands first.
    sizes: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    #: Frame numbers that arrived, in order, those of them with nothing on them, and those of them that are confirmed.
    numbers: list[int] = field(default_factory=list)
    empty: set[int] = field(default_factory=set)
    confirmed: set[int] = field(default_factory=set)
    #: Frame → PC → the size of a picture that was refused for it.
    wrong_sizes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    #: What was delivered before this process began is known, too.
    is_recalled: bool = False

    def neighbours(self, number: int) -> list[int]:
        """The nearest frame before and the nearest after."""
        here = bisect_left(self.numbers, number)
        after = here + (here < len(self.numbers) and self.numbers[here] == number)
        return [*self.numbers[max(0, here - 1) : here], *self.numbers[after : after + 1]]

    def continues(self, number: int) -> bool:
        """Whether an empty picture is to be expected here: the frame was confirmed, or one next to it is empty."""
        return number in self.confirmed or any(neighbour in self.empty for neighbour in self.neighbours(number))

    def learn(self, number: int, verdict: Verdict) -> None:
        """The picture of a frame goes to the server."""
        if number not in self.numbers[bisect_left(self.numbers, number) :][:1]:
            insort(self.numbers, number)
        for numbers, belongs in ((self.empty, verdict.is_empty), (self.confirmed, verdict.is_confirmed)):
            numbers.discard(number)
            if belongs:
                numbers.add(number)


class FrameValidator:
    """Looks at every picture before it may wait for the server. Thread-safe.

    ``on_vindicated`` gets a lease whose picture may go after all, and whose earlier picture, which stayed here, was the
    same: the PC that made that one was right. ``is_trusted`` says whether a PC's pictures count, ``recall`` gives
    the frames of a lease's job that were delivered or accepted, also before this start of the coordinator.
    """

    def __init__(
        self,
        inspect: Callable[[Path], Picture],
        on_vindicated: Callable[[Lease], None],
        is_trusted: Callable[[str], bool] = lambda _node_id: True,
        recall: Callable[[Lease], Iterable[tuple[str, Delivery]]] = lambda _lease: (),
    ) -> None:
        self._inspect, self._on_vindicated = inspect, on_vindicated
        self._is_trusted, self._recall = is_trusted, recall
        self._jobs = RecentJobs(_Job, MAX_JOBS)
        self._lock = threading.Lock()

    def validate(self, lease: Lease, path: Path) -> Verdict:
        """Learns from a good picture; raises :class:`BrokenPicture` for one that may never go to the server."""
        try:
            picture = self._inspect(path)
        except NotAPicture as error:
            raise BrokenPicture(str(error)) from None
        with self._lock:
            job = self._jobs.record_of(lease)
            was_right = _compare_size(picture, job, lease)
            if picture.is_empty:
                self._recall_once(job, lease)
            verdict = _compare_with_neighbours(picture, job, lease)
            number = _number_of(lease)
            if number is not None and not verdict.doubt:
                job.learn(number, verdict)
        if was_right or (verdict.is_confirmed and lease.held_back is not None):
            self._on_vindicated(lease)
        return verdict

    def vouches_for(self, lease: Lease) -> bool:
        """Whether the picture that is held back may go by now: the frame before or after it came out empty, too.

        A yes is remembered, as if the picture had just arrived.
        """
        number = _number_of(lease)
        if number is None or lease.held_back is None or not self._is_trusted(lease.held_back.node_id):
            return False
        with self._lock:
            job = self._jobs.record_of(lease)
            self._recall_once(job, lease)
            if not job.continues(number):
                return False
            job.learn(number, Verdict(is_empty=True, is_confirmed=True))
            return True

    def _recall_once(self, job: _Job, lease: Lease) -> None:
        if job.is_recalled:
            return
        job.is_recalled, known = True, frozenset(job.numbers)
        for frame, delivery in self._recall(lease):
            if frame.isdecimal() and int(frame) not in known:
                job.learn(int(frame), Verdict(is_empty=delivery.is_empty, is_confirmed=delivery.is_confirmed))


def _number_of(lease: Lease) -> int | None:
    return int(lease.offer.frame) if lease.offer.frame.isdecimal() else None


def _compare_size(picture: Picture, job: _Job, lease: Lease) -> bool:
    """Whether another PC's picture of this frame was refused for the size that turns out to be the right one."""
    size, node_id = (picture.width, picture.height), lease.node_id or ""
    job.sizes.setdefault(size, set()).add(node_id)
    usual = max(job.sizes, key=lambda known: len(job.sizes[known]))
    if size != usual:
        job.wrong_sizes.setdefault(lease.offer.frame, {})[node_id] = size
        raise BrokenPicture(
            f"the picture is {picture.width}x{picture.height}, the job's pictures are {usual[0]}x{usual[1]}"
        )
    refused = job.wrong_sizes.pop(lease.offer.frame, {})
    return any(other != node_id and refused_size == size for other, refused_size in refused.items())


def _compare_with_neighbours(picture: Picture, job: _Job, lease: Lease) -> Verdict:
    number = _number_of(lease)
    if not picture.is_empty:
        return Verdict()
    if number is None:
        return Verdict(is_empty=True)
    if lease.held_back is not None or job.continues(number):
        return Verdict(is_empty=True, is_confirmed=True)
    if not job.neighbours(number):
        return Verdict(is_empty=True)
    what = "black" if picture.is_black else "transparent" if picture.is_transparent else "black or transparent"
    return Verdict(is_empty=True, doubt=f"the picture is wholly {what}, and the frames next to it are not")
