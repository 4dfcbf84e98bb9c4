"""What is remembered of jobs: one record a revision, and no more than so many."""

from __future__ import annotations

import pytest

from coordinator.leases.lease import Lease
from coordinator.leases.recent_jobs import RecentJobs
from tests.support.coordinator.builders import offer

LIMIT = 3


@pytest.fixture
def jobs() -> RecentJobs[list[str]]:
    return RecentJobs(list[str], LIMIT)


def lease_of(job_id: str, revision: str = "0", frame: str = "0001") -> Lease:
    return Lease(id=f"{job_id}-{frame}", session_key="s", offer=offer(frame, job_id=job_id, revision=revision))


def test_frames_of_one_revision_share_a_record(jobs: RecentJobs[list[str]]) -> None:
    jobs.record_of(lease_of("7", frame="0001")).append("known")
    assert jobs.record_of(lease_of("7", frame="0002")) == ["known"]
    assert jobs.record_of(lease_of("7", revision="1")) == []
    assert jobs.record_of(lease_of("8")) == []


def test_a_job_that_nobody_looked_up_has_no_record(jobs: RecentJobs[list[str]]) -> None:
    assert jobs.known(lease_of("7")) is None
    jobs.record_of(lease_of("7")).append("known")
    assert jobs.known(lease_of("7")) == ["known"]


def test_the_record_looked_up_longest_ago_goes_first(jobs: RecentJobs[list[str]]) -> None:
    for job_id in ("1", "2", "3"):
        jobs.record_of(lease_of(job_id))
    jobs.record_of(lease_of("1"))
    jobs.known(lease_of("2"))
    jobs.record_of(lease_of("4"))
    assert [job_id for job_id in "1234" if jobs.known(lease_of(job_id)) is not None] == ["1", "3", "4"]


def test_a_job_is_forgotten_with_all_its_revisions(jobs: RecentJobs[list[str]]) -> None:
    for lease in (lease_of("7"), lease_of("7", revision="1"), lease_of("77")):
        jobs.record_of(lease)
    jobs.forget("7")
    assert jobs.known(lease_of("7")) is None
    assert jobs.known(lease_of("7", revision="1")) is None
    assert jobs.known(lease_of("77")) is not None
