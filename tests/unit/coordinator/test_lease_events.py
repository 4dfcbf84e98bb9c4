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
        self.told = 0

    def job_may_be_there(self) -> None:
        self.told += 1


class Farm:
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
def farm(ledger: Ledger, spool: Spool, reports: ReportBox, tmp_path: Path) -> Farm:
    return Farm(ledger, spool, reports, tmp_path / "logs")


def test_a_picture_that_arrived_wakes_everybody_and_ends_its_pcs_pause(farm: Farm) -> None:
    farm.claims.fail(rendering(farm.ledger, "0001").id, 1, "n1", DISK_FULL)
    assert farm.pauses.is_paused("n1")
    farm.delivered("0002")
    assert not farm.pauses.is_paused("n1")
    assert farm.woken() == {"placing", "asking", "uploading"}


def test_a_failed_attempt_leaves_a_log_and_a_strike_once_another_pc_succeeds(farm: Farm) -> None:
    lease = rendering(farm.ledger, "0001")
    farm.claims.fail(lease.id, 1, "n1", CRASHED)
    path = farm.logs.last_of(lease)
    assert path is not None
    assert "attempt 1 on pc-n1" in path.read_text()
    assert farm.quarantine.strikes_of("n1") == []
    farm.strike("0002")
    assert farm.quarantine.strikes_of("n1") == ["failed: frame 0002 · demo: signal 11"]


def test_the_second_strike_takes_the_pcs_frames_away_but_not_its_pictures(farm: Farm) -> None:
    picture, waiting, elsewhere = farm.delivered("0008"), farm.ordered("0009"), farm.ordered("0010", "n2")
    farm.strike("0001")
    assert farm.state(waiting) is LeaseState.ORDERED
    farm.strike("0002")
    assert farm.state(waiting) is LeaseState.GRANTED
    assert farm.cancelled == [("n1", waiting.id, 1)]
    assert (farm.state(picture), farm.state(elsewhere)) == (LeaseState.DELIVERED, LeaseState.ORDERED)
    assert farm.nodes.nodes().keys() == {"n2"}


def test_frames_refused_as_broken_take_the_pcs_other_pictures_away_too(farm: Farm) -> None:
    first, second, picture = (farm.delivered(frame) for frame in ("0001", "0002", "0003"))
    for lease in (first, second):
        farm.ledger.apply(lease.id, LeaseEvent.REFUSE)
        farm.events.refused_as_broken(lease, "status 301")
    assert farm.state(picture) is LeaseState.GRANTED
    assert picture.delivery is not None
    assert picture.delivery.picture not in farm.spool.names()


def test_trouble_of_a_pcs_own_pauses_it_and_gives_what_waits_there_to_others(farm: Farm) -> None:
    lease, waiting = rendering(farm.ledger, "0001"), farm.ordered("0002")
    farm.claims.fail(lease.id, 1, "n1", DISK_FULL)
    assert farm.pauses.is_paused("n1")
    assert farm.cancelled == [("n1", waiting.id, 1)]
    assert [farm.state(lease), farm.state(waiting)] == [LeaseState.GRANTED] * 2
    assert farm.nodes.nodes().keys() == {"n2"}
    assert farm.logs.last_of(lease) is not None
    again = farm.ordered("0003")
    farm.events.node_failed(rendering(farm.ledger, "0004"), DISK_FULL)
    assert farm.state(again) is LeaseState.ORDERED, "it is paused already"


def test_a_scene_that_no_pc_can_render_puts_the_whole_job_on_hold(farm: Farm) -> None:
    first, second, waiting = rendering(farm.ledger, "0001"), rendering(farm.ledger, "0002", "n2"), farm.ordered("0003")
    farm.claims.fail(first.id, 1, "n1", NO_CAMERA)
    assert not farm.blocks.is_blocked("77", "0001"), "the other PC may see it otherwise"
    farm.claims.fail(second.id, 1, "n2", NO_CAMERA)
    assert farm.blocks.is_blocked("77", "0001")
    assert {farm.state(lease) for lease in (first, second, waiting)} == {LeaseState.FAILED}
    assert ("n1", waiting.id, 1) in farm.cancelled
    assert farm.reports.session_keys() == {KEY}


def test_a_picture_held_back_is_a_strike_once_another_pc_makes_a_better_one(farm: Farm) -> None:
    lease = rendering(farm.ledger, "0001")
    farm.events.held_back(lease, "black")
    farm.events.delivered(rendering(farm.ledger, "0001", "n2"))
    assert farm.quarantine.strikes_of("n1") == []
    farm.events.delivered(replace(lease, node_id="n2"))
    assert farm.quarantine.strikes_of("n1") == ["broken picture: frame 0001 · demo: black"]


def test_nobody_renders_what_was_overtaken(farm: Farm) -> None:
    lease = farm.ordered("0001", "n2")
    farm.events.overtaken(lease)
    assert farm.cancelled == [("n2", lease.id, 1)]


def test_a_lease_that_returned_is_placed_at_once(farm: Farm) -> None:
    farm.events.returned(farm.ledger.grant(offer(), KEY))
    assert farm.woken() == {"placing"}


def test_the_server_is_told_of_a_lease_that_was_given_up(farm: Farm) -> None:
    farm.claims.give_up(rendering(farm.ledger), CRASHED)
    assert farm.reports.session_keys() == {KEY}
    assert farm.woken() == {"placing", "asking", "uploading"}


def test_a_cancelled_lease_ends_on_its_node_and_its_session_asks_again(farm: Farm) -> None:
    lease, picture = rendering(farm.ledger, "0001"), farm.delivered("0002")
    farm.wakeups.asking.clear()
    farm.events.cancel(lease, "the server says so")
    farm.events.cancel(picture, "the server says so")
    assert [farm.state(lease), farm.state(picture)] == [LeaseState.CANCELLED] * 2
    assert farm.cancelled[0] == ("n1", lease.id, 1)
    assert farm.spool.names() == []
    assert farm.session.told == 2
    assert farm.wakeups.asking.is_set()
    assert farm.reports.session_keys() == set(), "the server knows"


def test_of_leases_that_are_cancelled_together_only_those_that_had_not_ended_are_named(farm: Farm) -> None:
    lease, ended = rendering(farm.ledger, "0001"), rendering(farm.ledger, "0002")
    farm.ledger.apply(ended.id, LeaseEvent.CANCEL)
    assert [done.id for done in farm.events.cancel_all([lease, ended], "cancelled by the operator")] == [lease.id]


def test_a_lost_lease_ends_once(farm: Farm) -> None:
    lease = rendering(farm.ledger)
    farm.events.lose(lease, "the session is disabled")
    farm.events.lose(lease, "the session is disabled")
    assert farm.state(lease) is LeaseState.LOST
    assert farm.cancelled == [("n1", lease.id, 1)]


def test_frames_given_back_are_reported_and_uploaded_at_once(farm: Farm) -> None:
    farm.events.give_back([rendering(farm.ledger)], "cancelled by the operator")
    assert farm.reports.session_keys() == {KEY}
    assert farm.woken() == {"uploading"}


def test_a_pc_that_takes_nothing_loses_what_waits_there_and_keeps_what_it_holds(farm: Farm) -> None:
    waiting, fresh = farm.ordered("0001"), farm.ordered("0002")
    fetching, rendered, others = farm.ordered("0003"), rendering(farm.ledger, "0004"), farm.ordered("0005", "n2")
    stalled = node("n1", name="pc-n1", slots=4, busy=(slot(fetching, Stage.FETCHING), slot(rendered)))
    farm.events.node_takes_nothing(stalled, 2)
    assert [farm.state(lease) for lease in (waiting, fresh)] == [LeaseState.GRANTED] * 2
    assert [farm.state(lease) for lease in (fetching, rendered, others)] == [
        LeaseState.ORDERED, LeaseState.RENDERING, LeaseState.ORDERED,
    ]  # fmt: skip
    assert farm.ledger.get(waiting.id).failures == 0
    assert set(farm.nodes.nodes()) == {"n2"}, "it gets no more"
    assert "takes no orders" in farm.pauses.reason("n1")
    assert farm.events.stalled_nodes() == {"n1"}
    farm.events.node_takes_orders("n1")
    assert not farm.pauses.is_paused("n1")
