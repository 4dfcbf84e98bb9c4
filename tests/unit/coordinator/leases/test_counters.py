"""What is counted about leases, against what a look through the ledger would say."""

from __future__ import annotations

from coordinator.delivery.claims import Claims
from coordinator.leases.counters import LeaseCounters, SessionCounts
from coordinator.leases.lease import LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from tests.support.coordinator.builders import offer, rendering, report
from tests.support.coordinator.fakes import KEY


def test_every_step_of_a_lease_is_counted_and_its_end_too(ledger: Ledger, claims: Claims) -> None:
    tally = LeaseCounters()
    ledger.watch(tally.follow)
    assert tally.of(KEY) == SessionCounts()
    lease = ledger.grant(offer(), KEY)
    assert tally.of(KEY) == SessionCounts(granted_cpu=1, active=1)
    ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n1")
    ledger.apply(lease.id, LeaseEvent.START)
    assert tally.of(KEY) == SessionCounts(active=1)
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    assert tally.of(KEY) == SessionCounts(delivered=1, active=1)
    ledger.apply(lease.id, LeaseEvent.ACCEPT)
    assert tally.of(KEY) == SessionCounts()


def test_what_was_there_before_it_watched_counts(ledger: Ledger) -> None:
    ledger.grant(offer("0001", use_gpu=True), KEY)
    ledger.grant(offer("0002", synchronous_upload=True), KEY)
    ledger.grant(offer("0003"), "node:other")
    tally = LeaseCounters()
    ledger.watch(tally.follow)
    assert tally.of(KEY) == SessionCounts(granted_cpu=1, granted_gpu=1, synchronous=1, active=2)
    assert tally.of("node:other") == SessionCounts(granted_cpu=1, active=1)


def test_a_lease_that_comes_back_is_granted_again(ledger: Ledger, claims: Claims) -> None:
    tally = LeaseCounters()
    ledger.watch(tally.follow)
    lease = rendering(ledger)
    claims.take_back(lease, "its PC fell silent")
    assert ledger.get(lease.id).state is LeaseState.GRANTED
    assert tally.of(lease.session_key).granted_cpu == 1


def test_archives_are_needed_until_the_last_lease_has_its_picture(ledger: Ledger, claims: Claims) -> None:
    tally = LeaseCounters()
    ledger.watch(tally.follow)
    first, second = rendering(ledger, "0001"), rendering(ledger, "0002")
    both = {first.offer.archive_md5, first.offer.renderer.md5}
    assert tally.needed_archives() == both
    claims.deliver(first.id, 1, "n1", report(), [b"PNG data"])
    assert tally.needed_archives() == both
    ledger.apply(second.id, LeaseEvent.CANCEL)
    assert tally.needed_archives() == set()


def test_the_largest_peak_of_a_job_is_remembered(ledger: Ledger, claims: Claims) -> None:
    tally = LeaseCounters()
    ledger.watch(tally.follow)
    for number, memory_kb in (("0001", 5000), ("0002", 9000), ("0003", 100)):
        lease = rendering(ledger, number)
        claims.deliver(lease.id, 1, "n1", report(memory_kb=memory_kb), [b"PNG data"])
    assert tally.peak_kb(lease.offer.job_id, lease.offer.revision) == 9000
    assert tally.peak_kb(lease.offer.job_id, "another") == 0
