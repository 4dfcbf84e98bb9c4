"""What follows when something happens to a lease, with a real ledger, spool and claims."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.delivery.claim_listener import ClaimListener
from coordinator.delivery.claims import Claims
from coordinator.delivery.failure_logs import FailureLogs
from coordinator.delivery.spool import Spool
from coordinator.delivery.validation import FrameValidator
from coordinator.jobs.blocks import JobBlocks
from coordinator.jobs.scene_faults import SceneFaults
from coordinator.lease_events import LeaseEvents, LeaseEventServices
from coordinator.leases.counters import LeaseCounters
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from coordinator.nodes.pauses import NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.node_index import NodeIndex
from coordinator.scheduling.requirements import RequirementsBuilder
from coordinator.upstream.uploads.error_reports import ReportBox
from sheepfold.backoff import Backoff
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.presence import Stage
from tests.support.coordinator.builders import look, offer, rendering, report
from tests.support.coordinator.fakes import KEY, node, slot

CRASHED = FailureReport(kind=FailureKind.RENDERER_CRASHED, reason="signal 11", log="a core was dumped")
DISK_FULL = FailureReport(kind=FailureKind.DISK_FULL, reason="no room")
NO_CAMERA = FailureReport(kind=FailureKind.NO_CAMERA, reason="Cannot render, no camera")


class WaitingSession:
    """Counts how often it is told that there may be a job."""

    def __init__(self) -> None:
        self.job_hints = 0

    def job_may_be_there(self) -> None:
        self.job_hints += 1


class LeaseEventsHarness:
    """Two PCs, ``n1`` and ``n2``, and what was told to them and to the server."""

    def __init__(self, ledger: Ledger, spool: Spool, reports: ReportBox, folder: Path) -> None:
        self.ledger, self.spool, self.reports = ledger, spool, reports
        self.cancelled: list[tuple[str | None, str, int]] = []
        self.session, self.wakeups = WaitingSession(), Wakeups()
        store, self.present, counters = KeyValueStore(ledger.database), PresentNodes(), LeaseCounters()
        self.logs, self.quarantine = FailureLogs(folder).open(), NodeQuarantine(store).load()
        self.pauses = NodePauses(lambda: Backoff(5, 300, random.Random(1)))
        self.blocks, self.nodes = JobBlocks(store, "http://server").load(), NodeIndex(look_ahead=1)
        self.present.nodes = {node_id: node(node_id, name=f"pc-{node_id}") for node_id in ("n1", "n2")}
        for presence in self.present.nodes.values():
            self.nodes.upsert(presence, KEY)
        self.events = LeaseEvents(
            LeaseEventServices(
                ledger=ledger,
                spool=spool,
                reports=reports,
                failure_logs=self.logs,
                quarantine=self.quarantine,
                pauses=self.pauses,
                scene_faults=SceneFaults(self.present),
                blocks=self.blocks,
                nodes=self.nodes,
                present=self.present,
                requirements=RequirementsBuilder(ledger, counters, self.nodes),
                canceller=self,
                sessions={KEY: self.session},
                wakeups=self.wakeups,
            ),
            self._make_claims,
        )
        self.claims = self.events.claims

    def _make_claims(self, listener: ClaimListener) -> Claims:
        return Claims(self.ledger, self.spool, FrameValidator(look, self.quarantine.ended), listener, attempts=3)

    def cancel(self, node_id: str | None, lease_id: str, attempt: int) -> None:
        self.cancelled.append((node_id, lease_id, attempt))

    def ordered(self, frame: str, node_id: str = "n1") -> Lease:
        lease = self.ledger.grant(offer(frame), KEY)
        return self.ledger.apply(lease.id, LeaseEvent.ORDER, node_id=node_id)

    def delivered(self, frame: str, node_id: str = "n1") -> Lease:
        lease = rendering(self.ledger, frame, node_id)
        self.claims.deliver(lease.id, lease.attempt, node_id, report(), [b"PNG data"])
        return self.ledger.get(lease.id)

    def strike(self, frame: str) -> None:
        """``n1`` fails a frame that ``n2`` finishes."""
        lease = rendering(self.ledger, frame, "n1")
        self.claims.fail(lease.id, 1, "n1", CRASHED)
        self.ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n2")
        self.ledger.apply(lease.id, LeaseEvent.START)
        self.claims.deliver(lease.id, 2, "n2", report(), [b"PNG data"])

    def state(self, lease: Lease) -> LeaseState:
        return self.ledger.get(lease.id).state

    def woken(self) -> set[str]:
        events = {"placing": self.wakeups.placing, "asking": self.wakeups.asking, "uploading": self.wakeups.uploading}
        return {name for name, event in events.items() if event.is_set()}


@pytest.fixture
def harness(ledger: Ledger, spool: Spool, reports: ReportBox, tmp_path: Path) -> LeaseEventsHarness:
    return LeaseEventsHarness(ledger, spool, reports, tmp_path / "logs")


def test_a_picture_that_arrived_wakes_everybody_and_ends_its_pcs_pause(harness: LeaseEventsHarness) -> None:
    harness.claims.fail(rendering(harness.ledger, "0001").id, 1, "n1", DISK_FULL)
    assert harness.pauses.is_paused("n1")
    harness.delivered("0002")
    assert not harness.pauses.is_paused("n1")
    assert harness.woken() == {"placing", "asking", "uploading"}


def test_a_failed_attempt_leaves_a_log_and_a_strike_once_another_pc_succeeds(harness: LeaseEventsHarness) -> None:
    lease = rendering(harness.ledger, "0001")
    harness.claims.fail(lease.id, 1, "n1", CRASHED)
    path = harness.logs.last_of(lease)
    assert path is not None
    assert "attempt 1 on pc-n1" in path.read_text()
    assert harness.quarantine.strikes_of("n1") == []
    harness.strike("0002")
    assert harness.quarantine.strikes_of("n1") == ["failed: frame 0002 · demo: signal 11"]


def test_the_second_strike_takes_the_pcs_frames_away_but_not_its_pictures(harness: LeaseEventsHarness) -> None:
    picture, waiting, elsewhere = harness.delivered("0008"), harness.ordered("0009"), harness.ordered("0010", "n2")
    harness.strike("0001")
    assert harness.state(waiting) is LeaseState.ORDERED
    harness.strike("0002")
    assert harness.state(waiting) is LeaseState.GRANTED
    assert harness.cancelled == [("n1", waiting.id, 1)]
    assert (harness.state(picture), harness.state(elsewhere)) == (LeaseState.DELIVERED, LeaseState.ORDERED)
    assert harness.nodes.nodes().keys() == {"n2"}


def test_frames_refused_as_broken_take_the_pcs_other_pictures_away_too(harness: LeaseEventsHarness) -> None:
    first, second, picture = (harness.delivered(frame) for frame in ("0001", "0002", "0003"))
    for lease in (first, second):
        harness.ledger.apply(lease.id, LeaseEvent.REFUSE)
        harness.events.refused_as_broken(lease, "status 301")
    assert harness.state(picture) is LeaseState.GRANTED
    assert picture.delivery is not None
    assert picture.delivery.picture not in harness.spool.names()


def test_trouble_of_a_pcs_own_pauses_it_and_gives_what_waits_there_to_others(harness: LeaseEventsHarness) -> None:
    lease, waiting = rendering(harness.ledger, "0001"), harness.ordered("0002")
    harness.claims.fail(lease.id, 1, "n1", DISK_FULL)
    assert harness.pauses.is_paused("n1")
    assert harness.cancelled == [("n1", waiting.id, 1)]
    assert [harness.state(lease), harness.state(waiting)] == [LeaseState.GRANTED] * 2
    assert harness.nodes.nodes().keys() == {"n2"}
    assert harness.logs.last_of(lease) is not None
    again = harness.ordered("0003")
    harness.events.node_failed(rendering(harness.ledger, "0004"), DISK_FULL)
    assert harness.state(again) is LeaseState.ORDERED, "it is paused already"


def test_a_scene_that_no_pc_can_render_puts_the_whole_job_on_hold(harness: LeaseEventsHarness) -> None:
    first, second, waiting = (
        rendering(harness.ledger, "0001"),
        rendering(harness.ledger, "0002", "n2"),
        harness.ordered("0003"),
    )
    harness.claims.fail(first.id, 1, "n1", NO_CAMERA)
    assert not harness.blocks.is_blocked("77", "0001"), "the other PC may see it otherwise"
    harness.claims.fail(second.id, 1, "n2", NO_CAMERA)
    assert harness.blocks.is_blocked("77", "0001")
    assert {harness.state(lease) for lease in (first, second, waiting)} == {LeaseState.FAILED}
    assert ("n1", waiting.id, 1) in harness.cancelled
    assert harness.reports.session_keys() == {KEY}


def test_a_picture_held_back_is_a_strike_once_another_pc_makes_a_better_one(harness: LeaseEventsHarness) -> None:
    lease = rendering(harness.ledger, "0001")
    harness.events.held_back(lease, "black")
    harness.events.delivered(rendering(harness.ledger, "0001", "n2"))
    assert harness.quarantine.strikes_of("n1") == []
    harness.events.delivered(replace(lease, node_id="n2"))
    assert harness.quarantine.strikes_of("n1") == ["broken picture: frame 0001 · demo: black"]


def test_nobody_renders_what_was_overtaken(harness: LeaseEventsHarness) -> None:
    lease = harness.ordered("0001", "n2")
    harness.events.overtaken(lease)
    assert harness.cancelled == [("n2", lease.id, 1)]


def test_a_lease_that_returned_is_placed_at_once(harness: LeaseEventsHarness) -> None:
    harness.events.returned(harness.ledger.grant(offer(), KEY))
    assert harness.woken() == {"placing"}


def test_the_server_is_told_of_a_lease_that_was_given_up(harness: LeaseEventsHarness) -> None:
    harness.claims.give_up(rendering(harness.ledger), CRASHED)
    assert harness.reports.session_keys() == {KEY}
    assert harness.woken() == {"placing", "asking", "uploading"}


def test_a_cancelled_lease_ends_on_its_node_and_its_session_asks_again(harness: LeaseEventsHarness) -> None:
    lease, picture = rendering(harness.ledger, "0001"), harness.delivered("0002")
    harness.wakeups.asking.clear()
    harness.events.cancel(lease, "the server says so")
    harness.events.cancel(picture, "the server says so")
    assert [harness.state(lease), harness.state(picture)] == [LeaseState.CANCELLED] * 2
    assert harness.cancelled[0] == ("n1", lease.id, 1)
    assert harness.spool.names() == []
    assert harness.session.job_hints == 2
    assert harness.wakeups.asking.is_set()
    assert harness.reports.session_keys() == set(), "the server knows"


def test_of_leases_that_are_cancelled_together_only_those_that_had_not_ended_are_named(
    harness: LeaseEventsHarness,
) -> None:
    lease, ended = rendering(harness.ledger, "0001"), rendering(harness.ledger, "0002")
    harness.ledger.apply(ended.id, LeaseEvent.CANCEL)
    assert [done.id for done in harness.events.cancel_all([lease, ended], "cancelled by the operator")] == [lease.id]


def test_a_lost_lease_ends_once(harness: LeaseEventsHarness) -> None:
    lease = rendering(harness.ledger)
    harness.events.lose(lease, "the session is disabled")
    harness.events.lose(lease, "the session is disabled")
    assert harness.state(lease) is LeaseState.LOST
    assert harness.cancelled == [("n1", lease.id, 1)]


def test_frames_given_back_are_reported_and_uploaded_at_once(harness: LeaseEventsHarness) -> None:
    harness.events.give_back([rendering(harness.ledger)], "cancelled by the operator")
    assert harness.reports.session_keys() == {KEY}
    assert harness.woken() == {"uploading"}


def test_a_pc_that_takes_nothing_loses_what_waits_there_and_keeps_what_it_holds(harness: LeaseEventsHarness) -> None:
    waiting, fresh = harness.ordered("0001"), harness.ordered("0002")
    fetching, rendered, others = (
        harness.ordered("0003"),
        rendering(harness.ledger, "0004"),
        harness.ordered("0005", "n2"),
    )
    stalled = node("n1", name="pc-n1", slots=4, busy=(slot(fetching, Stage.FETCHING), slot(rendered)))
    harness.events.node_takes_nothing(stalled, 2)
    assert [harness.state(lease) for lease in (waiting, fresh)] == [LeaseState.GRANTED] * 2
    assert [harness.state(lease) for lease in (fetching, rendered, others)] == [
        LeaseState.ORDERED, LeaseState.RENDERING, LeaseState.ORDERED,
    ]  # fmt: skip
    assert harness.ledger.get(waiting.id).failures == 0
    assert set(harness.nodes.nodes()) == {"n2"}, "it gets no more"
    assert "takes no orders" in harness.pauses.reason("n1")
    assert harness.events.stalled_nodes() == {"n1"}
    harness.events.node_takes_orders("n1")
    assert not harness.pauses.is_paused("n1")


def test_a_revoked_pcs_frames_go_to_others_and_its_pictures_stay(harness: LeaseEventsHarness) -> None:
    waits, renders = harness.ordered("0001"), rendering(harness.ledger, "0002", "n1")
    arrived, other = harness.delivered("0003"), harness.ordered("0004", "n2")
    harness.events.revoked("n1")
    states = [harness.state(lease) for lease in (waits, renders, arrived, other)]
    assert states == [LeaseState.GRANTED, LeaseState.GRANTED, LeaseState.DELIVERED, LeaseState.ORDERED]
    assert "placing" in harness.woken()
