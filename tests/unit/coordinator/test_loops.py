"""One turn of each of the coordinator's loops."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection
from typing import Any, cast

import pytest

from coordinator.broker.errors import FarmLocked
from coordinator.broker.farm_lock import Holder
from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from coordinator.loops import BROKER_PAUSE_S, TIDY_EVERY_S, FarmLoops, LoopServices
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.pauses import NodePauses
from coordinator.nodes.present_nodes import PresentNodes
from coordinator.nodes.quarantine import NodeQuarantine
from coordinator.runtime.stop_request import StopRequest
from coordinator.runtime.wakeups import Wakeups
from coordinator.scheduling.node_index import NodeIndex
from coordinator.scheduling.usable_nodes import UsableNodes
from coordinator.settings import SessionMode
from coordinator.upstream.session import FarmSession
from coordinator.upstream.session_pool import SessionPool
from coordinator.upstream.session_workers import IDLE_S
from sheepfold.backoff import Backoff
from sheepfold.protocol.session_messages import Hardware
from tests.support.coordinator.fakes import HARDWARE, FakeSession, node

HOLDER = Holder(farm_id="b", host="pc", pid=1, since=0.0)


class JoinedSession(FakeSession):
    """Counts nodes that joined."""

    joined = 0

    def node_joined(self) -> None:
        self.joined += 1


class LoopsHarness:
    """Real nodes and sessions; what the loops call beside them is the harness itself, and notes it."""

    def __init__(self, ledger: Ledger) -> None:
        self.present, self.wakeups, self.stop = PresentNodes(), Wakeups(), StopRequest()
        self.pauses = NodePauses(lambda: Backoff(5, 300, random.Random(1)))
        self.quarantine = NodeQuarantine(KeyValueStore(ledger.database))
        self.index, self.session = NodeIndex(look_ahead=1), JoinedSession()
        self.sessions = SessionPool(SessionMode.FARM, self._session).open(HARDWARE)
        self.usable = UsableNodes(self.present, self.quarantine, self.pauses, self.index, self.sessions, self.wakeups)
        #: What the next look at the LAN finds.
        self.seen = {"n1": node("n1")}
        self.broker_down, self.opened, self.placed, self.tidied, self.next_beat_s = False, 0, 0, 0, 30.0
        self.on_place: Callable[[], None] = lambda: None
        self.renewing: Callable[[], float] = lambda: 30.0
        mine = cast("Any", self)
        self.loops = FarmLoops(
            LoopServices(
                farm_lock=mine,
                users=mine,
                reconciler=mine,
                present=self.present,
                pauses=self.pauses,
                usable=self.usable,
                sessions=self.sessions,
                session_loops=mine,
                placer=mine,
                heartbeat=mine,
                archives=mine,
                authority=mine,
                wakeups=self.wakeups,
            ),
            self.stop,
        )

    def _session(self, _key: str, _hardware: Hardware) -> FarmSession:
        return cast("FarmSession", self.session)

    def sweep_once(self) -> bool:
        has_news = self.present.nodes != self.seen
        self.present.nodes = dict(self.seen)
        return has_news

    def look_once(self, present: Collection[str]) -> float:
        return 0.0 if present else 1.0

    def open_new(self) -> None:
        self.opened += 1

    def place_once(self) -> int:
        self.placed += 1
        self.on_place()
        return 0

    def tidy(self) -> None:
        self.tidied += 1

    def beat_once(self) -> float:
        return self.next_beat_s

    def renew_once(self) -> float:
        return self.renewing()


@pytest.fixture
def harness(ledger: Ledger) -> LoopsHarness:
    return LoopsHarness(ledger)


def test_users_of_redis_are_looked_at_with_the_nodes_that_are_here(harness: LoopsHarness) -> None:
    assert harness.loops.look_at_users_once() == 1.0
    harness.loops.reconcile_once()
    assert harness.loops.look_at_users_once() == 0.0


def test_a_node_that_came_is_indexed_and_told_to_its_session(harness: LoopsHarness) -> None:
    assert harness.loops.reconcile_once() == IDLE_S
    assert (list(harness.index.nodes()), harness.session.joined, harness.opened) == (["n1"], 1, 1)
    assert harness.wakeups.placing.is_set()
    assert harness.wakeups.asking.is_set()


def test_a_look_that_finds_nothing_new_changes_nothing(harness: LoopsHarness) -> None:
    harness.loops.reconcile_once()
    harness.wakeups.placing.clear()
    harness.loops.reconcile_once()
    assert (harness.session.joined, harness.opened, harness.wakeups.placing.is_set()) == (1, 1, False)


def test_only_the_node_that_is_new_counts_as_joined(harness: LoopsHarness) -> None:
    harness.loops.reconcile_once()
    harness.seen["n2"] = node("n2")
    harness.loops.reconcile_once()
    assert (sorted(harness.index.nodes()), harness.session.joined) == (["n1", "n2"], 2)


def test_a_node_that_left_gets_no_more_frames(harness: LoopsHarness) -> None:
    harness.loops.reconcile_once()
    harness.seen.clear()
    harness.loops.reconcile_once()
    assert not harness.index.nodes()


def test_a_node_whose_pause_is_over_gets_frames_again_without_other_news(harness: LoopsHarness) -> None:
    harness.loops.reconcile_once()
    harness.index.remove("n1")
    harness.wakeups.placing.clear()
    harness.loops.reconcile_once()
    assert (list(harness.index.nodes()), harness.wakeups.placing.is_set(), harness.opened) == (["n1"], True, 1)


def test_nothing_is_placed_while_redis_is_away(harness: LoopsHarness) -> None:
    harness.broker_down = True
    assert harness.loops.place_once() == IDLE_S
    assert harness.placed == 0
    harness.broker_down = False
    harness.loops.place_once()
    assert harness.placed == 1


def test_orders_that_the_broker_does_not_take_wait_and_nobody_wakes_them(harness: LoopsHarness) -> None:
    def fail() -> None:
        harness.wakeups.placing.set()  # the lease that came back
        raise BrokerUnreachable("no answer")

    harness.on_place = fail
    assert harness.loops.place_once() == BROKER_PAUSE_S
    assert not harness.wakeups.placing.is_set()


def test_archives_are_tidied_once_a_minute(harness: LoopsHarness) -> None:
    assert (harness.loops.tidy_once(), harness.tidied) == (TIDY_EVERY_S, 1)


@pytest.mark.parametrize(("next_beat_s", "wait_s"), [(30.0, IDLE_S), (0.2, 0.2), (0.0, 0.0)])
def test_heartbeats_of_leases_granted_meanwhile_wait_a_second_at_most(
    harness: LoopsHarness, next_beat_s: float, wait_s: float
) -> None:
    harness.next_beat_s = next_beat_s
    assert harness.loops.beat_once() == wait_s


def test_another_coordinator_ends_this_one(harness: LoopsHarness) -> None:
    def followed() -> float:
        raise FarmLocked(HOLDER)

    harness.renewing = followed
    harness.loops.start()
    harness.stop.wait()
    harness.loops.stop()
    assert isinstance(harness.stop.error, FarmLocked)
    assert not harness.stop.was_asked
    assert harness.loops.join_farm_lock(10)


def test_a_renewal_that_is_under_way_is_waited_for(harness: LoopsHarness) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow() -> float:
        began.set()
        assert go_on.wait(10)
        return 30.0

    harness.renewing = slow
    harness.loops.start()
    assert began.wait(10)
    harness.loops.stop()
    assert not harness.loops.join_farm_lock(0.01)
    go_on.set()
    assert harness.loops.join_farm_lock(10)
