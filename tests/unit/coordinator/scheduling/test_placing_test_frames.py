"""Test frames (jobs under 20) measure the one PC that their session describes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.leases.lease import LeaseState
from coordinator.scheduling.placing import MEASURED_PC_GONE_S, NOBODY_AFTER_S
from tests.support.coordinator.builders import ClaimRecord
from tests.support.coordinator.dispatcher_harness import DispatcherHarness
from tests.support.coordinator.fakes import node

STRONG, WEAK = node("strong", hardware={"cpu_cores": 64}), node("weak", hardware={"cpu_cores": 2})


@pytest.fixture
def harness(harness: DispatcherHarness) -> DispatcherHarness:
    harness.present = {"strong": STRONG, "weak": WEAK}
    harness.account.assign(harness.present)
    assert harness.session.machine.node_id == "strong"
    return harness


def test_a_test_frame_goes_to_the_pc_that_its_session_describes_even_where_others_are_free(
    harness: DispatcherHarness,
) -> None:
    for number in range(4):
        harness.grant(f"{number:04}", job_id="7")
    harness.place_until(lambda: len(harness.sent) == 2)
    harness.place()
    assert [name for _, _, name in harness.sent] == ["strong", "strong"], "the others wait for it"


def test_ordinary_frames_go_to_all_of_them(harness: DispatcherHarness) -> None:
    for number in range(4):
        harness.grant(f"{number:04}", job_id="20")
    harness.place_until(lambda: len(harness.sent) == 4)
    assert {name for _, _, name in harness.sent} == {"strong", "weak"}


def test_a_test_frame_whose_pc_is_gone_is_given_back_and_nobody_else_renders_it(
    harness: DispatcherHarness, claim_record: ClaimRecord
) -> None:
    harness.grant("0001", job_id="77")
    harness.fetched()
    del harness.present["strong"]
    lease = harness.grant("0002", job_id="7", synchronous_upload=True)
    harness.clock.now += MEASURED_PC_GONE_S - 10
    harness.place()
    assert harness.state(lease) is LeaseState.GRANTED, "it may be joining again"
    harness.clock.now += 20
    harness.place()
    assert harness.state(lease) is LeaseState.FAILED
    assert all(order.lease_id != lease.id for _, order, _ in harness.sent)
    [(given_back, _)] = claim_record.gave_up
    assert given_back.id == lease.id


def test_a_test_frame_of_a_session_that_describes_no_pc_of_ours_is_given_back(harness: DispatcherHarness) -> None:
    harness.session.describe(replace(harness.session.machine, node_id=""))
    lease = harness.grant("0001", job_id="7")
    harness.fetched()
    harness.clock.now += MEASURED_PC_GONE_S + 1
    harness.place()
    assert harness.state(lease) is LeaseState.FAILED
    assert not harness.sent


def test_a_test_frame_that_failed_is_tried_on_the_same_pc_again(harness: DispatcherHarness) -> None:
    lease = harness.grant("0001", job_id="7")
    harness.place_until(lambda: len(harness.sent) == 1)
    harness.claims.take_back(harness.ledger.get(lease.id), "it restarted")
    harness.place()
    assert [name for _, _, name in harness.sent] == ["strong", "strong"]


def test_an_ordinary_frame_waits_longer_for_a_pc(harness: DispatcherHarness) -> None:
    lease = harness.grant("0001", use_gpu=True)
    harness.fetched()
    harness.clock.now += MEASURED_PC_GONE_S + 1
    harness.place()
    assert harness.state(lease) is LeaseState.GRANTED
    assert MEASURED_PC_GONE_S < NOBODY_AFTER_S
