"""What is remembered of the jobs that leases came from last, in memory and bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from .lease import Lease

T = TypeVar("T")


class RecentJobs(Generic[T]):
    """One record for each revision of a job; beyond ``limit`` the one that was looked up longest ago goes.

    Not thread-safe: its owner's lock guards it.
    """

    def __init__(self, make: Callable[[], T], limit: int) -> None:
        self._make, self._limit = make, limit
        self._records: OrderedDict[tuple[str, str], T] = OrderedDict()

    def record_of(self, lease: Lease) -> T:
        """Made by ``make`` where there is none yet."""
        key = _revision(lease)
        if key not in self._records:
            self._records[key] = self._make()
        self._records.move_to_end(key)
        while len(self._records) > self._limit:
            self._records.popitem(last=False)
        return self._records[key]

    def known(self, lease: Lease) -> T | None:
        """The record where there is one; that counts as no look."""
        return self._records.get(_revision(lease))

    def forget(self, job_id: str) -> None:
        """Drops every revision of the job."""
        for key in [key for key in self._records if key[0] == job_id]:
            del self._records[key]


def _revision(lease: Lease) -> tuple[str, str]:
    return lease.offer.job_id, lease.offer.revision
