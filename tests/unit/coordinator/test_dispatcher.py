"""Free slots become orders: a real ledger and a real archive store, a server and a broker of the test's own."""

from __future__ import annotations

import collections
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from farm_parts import Told, offer, rendering, report
from lan_parts import HARDWARE, KEY, RENDERER, SCENE, Clock, Session, md5_of, node

from coordinator.account import Account
from coordinator.archives import DOWNLOAD_TRIES, ArchiveStore
from coordinator.claims import Claims
from coordinator.dispatcher import NOBODY_AFTER_S, STUCK_AT_MOST, Dispatcher
from coordinator.floor import Floor
from coordinator.leases import Lease, LeaseEvent, LeaseState
from coordinator.ledger import Ledger
from coordinator.ledger_file import LedgerError
from coordinator.needs import ORDERS_LOST, Needs
from coordinator.nodes import BrokerDown
from coordinator.pressure import Pressure
from coordinator.protocol.messages import ArchiveRequest, ComputeMethod, JobAnswer, JobOffer, RendererOffer
from coordinator.protocol.status import JobStatus
from coordinator.server_client import ArchiveGone, ServerSilent
from coordinator.sessions import Backoff, FarmSession, SessionState
from coordinator.settings import SessionMode
from coordinator.tally import Tally
from render_tasks.contract import (
    MAX_ORDER_BYTES,
    ArchiveRef,
    Compute,
    FailureKind,
    FailureReport,
    ForgedOrder,
    Presence,
    RenderOrder,
    SignedOrder,
    open_order,
)

SILENCE = ServerSilent("archive download", "http://server/x", "no answer")
CRASH = FailureReport(kind=FailureKind.RENDERER_CRASHED, reason="signal 11")
#: First wait after silence, jitter included.
LONGEST_FIRST_WAIT_S = 12.5


def frame(number: str = "0001", **changes: Any) -> JobOffer:
    """A frame whose archives the server of these tests has."""
    renderer = RendererOffer(md5=md5_of(RENDERER), command_line=".e -b .c -o .o -f .f", update_method="by_tile")
    values: dict[str, Any] = {"archive_md5": md5_of(SCENE), "renderer": renderer}
    return offer(number, **values | changes)


def gives(*offers: JobOffer) -> list[JobAnswer]:
    return [JobAnswer(status=JobStatus.OK, offer=one, frames_remaining=7) for one in offers]


class Chain:
    """A dispatcher and what stands around it."""

    def __init__(self, ledger: Ledger, claims: Claims, folder: Path) -> None:
        self.ledger, self.claims = ledger, claims
        self.session, self.clock = Session(), Clock()
        self.present: dict[str, Presence] = {"n1": node()}
        self.set_aside: set[str] = set()
        self.sent: list[tuple[SignedOrder, RenderOrder, str]] = []
        self.broker_error: Exception | None = None
        #: Called when the dispatcher has chosen a node.
        self.on_look: Callable[[], object] = lambda: None
        #: What the waits of the downloads were, in seconds.
        self.waits: list[float] = []
        self.key = Ed25519PrivateKey.generate()
        self.folder = folder
        self.account = Account(SessionMode.FARM, HARDWARE, lambda _key, _hardware: cast("FarmSession", self.session))
        self.make()

    def make(self, **changes: Any) -> Chain:
        """The dispatcher anew, with other settings."""
        if hasattr(self, "dispatcher"):
            self.dispatcher.close()
        self.pressure = Pressure(many=1)
        self.tally, self.floor = Tally(), Floor(look_ahead=changes.pop("look_ahead", 1))
        self.ledger.watch(self.tally.follow)
        self.ledger.watch(self.floor.follow)
        self.store = ArchiveStore(
            self.folder,
            quota_bytes=10**9,
            pinned=self.tally.needed_archives,
            reserve_bytes=changes.pop("reserve_bytes", 0),
        )
        needs = Needs(self.ledger, self.tally, self.floor, changes.pop("job_tags", None))
        settings: dict[str, Any] = {"render_limit_s": None, "needs": needs} | changes
        waits = self.waits

        class Noted(Backoff):
            def next(self) -> float:
                waits.append(super().next())
                return waits[-1]

        self.dispatcher = Dispatcher(
            ledger=self.ledger,
            tally=self.tally,
            floor=self.floor,
            pressure=self.pressure,
            account=self.account,
            archives=self.store,
            claims=self.claims,
            node=self._node,
            send_order=self._send,
            order_key=self.key,
            backoff=lambda: Noted(10, 100, random.Random(1)),
            clock=self.clock,
            wall_clock=lambda: time.time() + self.clock.now - Clock().now,
            **settings,
        )
        return self

    def look(self) -> None:
        """Who is here and may get frames, as the farm's sweep tells the floor."""
        usable = {id_: one for id_, one in self.present.items() if id_ not in self.set_aside}
        for node_id in self.floor.nodes().keys() - usable.keys():
            self.floor.leave(node_id)
        for one in usable.values():
            self.floor.see(one, self.account.key_of(one))

    def _node(self, node_id: str) -> Presence | None:
        self.on_look()
        return self.present.get(node_id)

    def ask(self) -> bool:
        self.look()
        return self.dispatcher.ask_once(cast("FarmSession", self.session))

    def place(self) -> int:
        self.look()
        return self.dispatcher.place_once()

    def ask_all(self) -> int:
        count = 0
        while self.ask():
            count += 1
        return count

    def grant(self, number: str = "0001", **changes: Any) -> Lease:
        return self.ledger.grant(frame(number, **changes), KEY)

    def state(self, lease: Lease) -> LeaseState:
        return self.ledger.get(lease.id).state

    def place_until(self, done: Callable[[], bool]) -> None:
        """Rounds of placing, as the farm makes them: when there may be something new, and every second."""
        for _ in range(20):
            self.dispatcher.wake_placing.clear()
            self.place()
            if done():
                return
            self.dispatcher.wake_placing.wait(1)
        raise AssertionError("it never came to that")

    def fetched(self) -> None:
        """The archives are here."""
        self.place_until(lambda: {md5_of(SCENE), md5_of(RENDERER)} <= set(self.store.held()))

    def _send(self, signed: SignedOrder, order: RenderOrder, node_name: str) -> None:
        if self.broker_error is not None:
            raise self.broker_error
        self.sent.append((signed, order, node_name))


@pytest.fixture
def chain(ledger: Ledger, claims: Claims, tmp_path: Path) -> Iterator[Chain]:
    made = Chain(ledger, claims, tmp_path / "archives")
    yield made
    made.dispatcher.close()


# Asking


def test_frames_are_asked_for_only_while_slots_and_look_ahead_have_room(chain: Chain) -> None:
    chain.present = {"n1": node(slots=2)}
    chain.session.answers = gives(*(frame(f"{number:04}") for number in range(9)))
    assert chain.ask_all() == 4, "two slots, and one ahead for each"
    assert len(chain.session.asked) == 4, "the server is not troubled where there is no room"

    chain.place_until(lambda: len(chain.sent) == 4)
    assert chain.ask_all() == 0

    done = chain.ledger.leases(LeaseState.ORDERED)[0]
    chain.claims.start(done.id, 1, "n1", "word")
    assert chain.ask_all() == 0
    chain.claims.deliver(done.id, 1, "n1", report(render_s=10.0), [b"PNG data"])
    assert chain.ask_all() == 1


@pytest.mark.parametrize("present", [{}, {"n1": node(accepting=False)}])
def test_nothing_is_asked_for_while_nobody_could_render_it(chain: Chain, present: dict[str, Presence]) -> None:
    chain.present = present
    chain.session.answers = gives(frame())
    assert not chain.ask()
    assert not chain.session.asked


def test_nothing_is_asked_for_while_nodes_queue_for_answers(chain: Chain) -> None:
    chain.session.answers = gives(frame())
    chain.look()
    with chain.pressure.one_more(), chain.pressure.one_more():
        assert chain.dispatcher.wanted(KEY) == 0
        assert not chain.ask()
    assert not chain.session.asked
    assert chain.dispatcher.wanted(KEY) == 2
    assert chain.ask()


def test_pcs_that_are_set_aside_get_nothing_and_make_no_room(chain: Chain) -> None:
    chain.present, chain.set_aside = {"n1": node(), "n2": node("n2")}, {"n1"}
    chain.session.answers = gives(*(frame(f"{number:04}") for number in range(9)))
    assert chain.ask_all() == 2
    chain.place_until(lambda: len(chain.sent) == 2)
    assert {name for _, _, name in chain.sent} == {"n2"}

    chain.set_aside = {"n1", "n2"}
    lease = chain.grant("0100")
    assert chain.place() == 0
    assert chain.state(lease) is LeaseState.GRANTED


def test_the_server_is_asked_for_what_the_free_pcs_can_do_and_told_what_we_hold(chain: Chain) -> None:
    chain.grant()
    chain.fetched()
    chain.present = {"n1": node(slots=3), "n2": node("n2", compute=Compute.GPU)}
    chain.ask()
    assert chain.session.asked == [(ComputeMethod.CPU_OR_GPU, tuple(sorted([md5_of(SCENE), md5_of(RENDERER)])))]
    chain.present = {"n2": node("n2", compute=Compute.GPU)}
    chain.ask()
    assert chain.session.asked[1][0] is ComputeMethod.GPU_ONLY


def test_frames_that_wait_for_a_gpu_do_not_keep_other_pcs_idle(chain: Chain) -> None:
    chain.make(look_ahead=0)
    chain.present = {"gpu": node("gpu", compute=Compute.GPU), "cpu": node("cpu")}
    for number in ("0001", "0002"):
        chain.grant(number, use_gpu=True)
    chain.place_until(lambda: len(chain.sent) == 1)
    chain.session.answers = gives(frame("0003"))
    assert chain.ask(), "the second GPU frame waits for its PC; the other PC has nothing to do"
    assert chain.session.asked == [(ComputeMethod.CPU_ONLY, tuple(sorted([md5_of(SCENE), md5_of(RENDERER)])))]


def test_a_frame_is_granted_under_its_session_and_wakes_the_placing(chain: Chain) -> None:
    chain.session.answers = gives(frame("0340"))
    chain.dispatcher.wake_placing.clear()
    assert chain.ask()
    [lease] = chain.ledger.leases(LeaseState.GRANTED)
    assert (lease.offer, lease.session_key) == (frame("0340"), KEY)
    assert chain.dispatcher.wake_placing.is_set()
    assert chain.dispatcher.frames_remaining == 7


def test_a_frame_that_must_go_up_first_holds_its_session_back_until_it_has_ended(chain: Chain) -> None:
    chain.present = {"n1": node(slots=8)}
    chain.session.answers = gives(frame("0001", synchronous_upload=True), *(frame(f"{n:04}") for n in range(2, 9)))
    assert chain.ask_all() == 1
    [lease] = chain.ledger.leases()
    for event, node_id in ((LeaseEvent.ORDER, "n1"), (LeaseEvent.START, None), (LeaseEvent.DELIVER, None)):
        chain.ledger.apply(lease.id, event, node_id=node_id)
        assert not chain.ask(), f"held back while it is {chain.state(lease)}"
    assert len(chain.session.asked) == 1
    chain.ledger.apply(lease.id, LeaseEvent.ACCEPT)
    assert chain.ask()


def test_another_sessions_frame_holds_nobody_back(chain: Chain) -> None:
    chain.ledger.grant(frame(synchronous_upload=True), "node:other")
    chain.session.answers = gives(frame())
    assert chain.ask()


def test_archives_the_server_wants_gone_are_dropped_unless_a_live_lease_needs_them(chain: Chain) -> None:
    lease = chain.grant()
    chain.place_until(lambda: bool(chain.sent))
    both = (md5_of(SCENE), md5_of(RENDERER))
    chain.session.answers = [JobAnswer(status=JobStatus.NO_JOB, delete_archives=both)] * 2
    assert not chain.ask()
    assert chain.store.path_of(md5_of(SCENE)) is not None, "the lease's node may still fetch it"
    assert chain.store.held() == [], "the server is not told of it any more"

    chain.ledger.apply(lease.id, LeaseEvent.CANCEL)
    assert not chain.ask()
    assert chain.store.path_of(md5_of(SCENE)) is None
    assert chain.store.path_of(md5_of(RENDERER)) is None


def test_an_archive_that_the_same_answer_wants_gone_and_needs_is_not_fetched_twice(chain: Chain) -> None:
    first = chain.grant()
    chain.fetched()
    chain.ledger.apply(first.id, LeaseEvent.CANCEL)
    chain.session.answers = [JobAnswer(status=JobStatus.OK, offer=frame("0002"), delete_archives=(md5_of(SCENE),))]
    assert chain.ask()
    chain.place_until(lambda: any(order.frame == "0002" for _, order, _ in chain.sent))
    assert len(chain.session.downloads) == 2


def test_a_frame_the_ledger_cannot_take_goes_back_to_the_server_and_no_other_is_asked_for(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Lease:
        raise LedgerError("no room")

    chain.session.answers = gives(frame("0340"), frame("0341"))
    with monkeypatch.context() as disk:
        disk.setattr(chain.ledger, "_write", full)
        for _ in range(3):
            with pytest.raises(LedgerError):
                chain.ask()
    assert len(chain.session.asked) == 1
    [(told, _)] = chain.session.reports
    assert (told.job, told.frame, told.extras) == ("77", "0340", "opaque")
    assert chain.ask(), "there is room again"
    assert [lease.offer.frame for lease in chain.ledger.leases()] == ["0341"]


# Fetching


def test_both_archives_are_fetched_once_however_many_frames_want_them(chain: Chain) -> None:
    chain.present = {"n1": node(slots=5)}
    for number in range(5):
        chain.grant(f"{number:04}")
    chain.place_until(lambda: len(chain.sent) == 5)
    assert sorted(chain.session.downloads, key=lambda one: one.type) == [
        ArchiveRequest(type="binary", job="77"),
        ArchiveRequest(type="job", job="77", revision="3"),
    ]


def test_both_archives_travel_side_by_side(chain: Chain) -> None:
    together = threading.Barrier(2, timeout=10)
    chain.session.during_download = lambda _request, _cancelled: together.wait()
    chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)


def test_a_silent_server_is_asked_again_later_and_no_lease_is_lost(chain: Chain, told: Told) -> None:
    chain.session.archives["job"] = [SILENCE, SCENE]
    lease = chain.grant()
    chain.place_until(lambda: md5_of(RENDERER) in chain.store.held() and len(chain.session.downloads) == 2)
    for _ in range(5):
        chain.place()
    assert len(chain.session.downloads) == 2, "it waits before it asks again"
    assert chain.ledger.get(lease.id) == lease

    chain.clock.now += LONGEST_FIRST_WAIT_S
    chain.place_until(lambda: len(chain.sent) == 1)
    assert len(chain.session.downloads) == 3
    assert not told.gave_up


def test_waits_for_a_silent_server_grow(chain: Chain) -> None:
    chain.session.archives["job"] = [SILENCE]
    chain.grant()
    for tries in (1, 2, 3):
        chain.place_until(lambda tries=tries: len(chain.waits) == tries)
        chain.clock.now += 1000
    assert chain.waits[0] < chain.waits[1] < chain.waits[2]


def test_a_session_that_is_not_signed_in_fetches_nothing_yet(chain: Chain) -> None:
    chain.session.signed_in = False
    lease = chain.grant()
    chain.place()
    assert chain.dispatcher.wake_placing.wait(10)
    chain.place()
    assert not chain.session.downloads
    assert chain.state(lease) is LeaseState.GRANTED


@pytest.mark.parametrize("kind", ["job", "binary"])
def test_an_archive_the_server_no_longer_has_gives_the_frame_up_with_a_report(
    chain: Chain, told: Told, kind: str
) -> None:
    chain.session.archives[kind] = [ArchiveGone("the server no longer has the archive")]
    lease = chain.grant()
    chain.place_until(lambda: chain.state(lease) is LeaseState.FAILED)
    [(failed, failure)] = told.gave_up
    assert (failed.id, failure.kind) == (lease.id, FailureKind.NO_ARCHIVE)
    assert "no longer has" in failure.reason
    assert not chain.sent


def test_an_archive_that_keeps_arriving_with_another_md5_gives_the_frame_up(chain: Chain, told: Told) -> None:
    chain.session.archives["job"] = [b"something else"]
    lease = chain.grant()
    chain.place_until(lambda: chain.state(lease) is LeaseState.FAILED)
    assert sum(one.type == "job" for one in chain.session.downloads) == DOWNLOAD_TRIES
    assert md5_of(b"something else") in told.gave_up[0][1].reason
    assert md5_of(SCENE) not in chain.store.held()


def test_an_md5_that_would_become_a_path_gives_the_frame_up(chain: Chain) -> None:
    lease = chain.grant(archive_md5="../../etc/passwd")
    chain.place()
    assert chain.state(lease) is LeaseState.FAILED


def test_one_damaged_download_costs_nothing_but_time(chain: Chain) -> None:
    chain.session.archives["job"] = [SCENE[:-1], SCENE]
    chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)


def test_a_full_disk_waits_for_room(chain: Chain, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.make(reserve_bytes=1000)
    usage = collections.namedtuple("usage", "total used free")
    lease = chain.grant()
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 10))
        chain.place_until(lambda: len(chain.waits) == 2)
    assert chain.ledger.get(lease.id) == lease
    assert chain.place() == 0
    assert not chain.session.downloads, "the line is spared while there is no room"
    chain.clock.now += LONGEST_FIRST_WAIT_S
    chain.place_until(lambda: len(chain.sent) == 1)
    assert not told.gave_up


def test_an_error_of_our_own_disk_waits_and_holds_no_other_frame_up(chain: Chain) -> None:
    other = b"another scene"
    chain.present = {"n1": node(slots=4)}
    chain.session.archives["job"] = [OSError(5, "Input/output error"), other]
    ill = chain.grant("0001")
    chain.place()
    assert chain.dispatcher.wake_placing.wait(10)
    chain.grant("0002", archive_md5=md5_of(other))
    chain.place_until(lambda: [order.frame for _, order, _ in chain.sent] == ["0002"])
    assert chain.state(ill) is LeaseState.GRANTED
    before = len(chain.session.downloads)
    chain.place()
    assert len(chain.session.downloads) == before, "it waits before it tries again"


def test_a_download_that_failed_for_an_earlier_frame_says_nothing_about_a_later_one(chain: Chain) -> None:
    scene_failed = threading.Event()
    gone = ArchiveGone("gone")
    chain.session.archives = {"job": [gone, gone, SCENE], "binary": [gone, gone, RENDERER]}

    def renderer_last(request: ArchiveRequest, _cancelled: object) -> None:
        if request.type == "binary":
            assert scene_failed.wait(10)

    chain.session.during_download = renderer_last
    first = chain.grant("0001")
    chain.place_until(lambda: chain.state(first) is LeaseState.FAILED)
    chain.dispatcher.wake_placing.clear()
    scene_failed.set()
    assert chain.dispatcher.wake_placing.wait(10)
    chain.place()  # nobody waits for it any more

    later = chain.grant("0002")
    chain.place_until(lambda: chain.state(later) is not LeaseState.GRANTED)
    assert chain.state(later) is LeaseState.ORDERED


def test_a_failure_is_told_only_to_frames_that_waited_for_it(chain: Chain) -> None:
    other = b"another scene"
    chain.present = {"n1": node(slots=9)}
    chain.session.archives = {"job": [ArchiveGone("gone"), ArchiveGone("gone"), other], "binary": [RENDERER]}
    cancelled, waited = chain.grant("0001"), chain.grant("0002")
    chain.place()
    chain.ledger.apply(cancelled.id, LeaseEvent.CANCEL)
    chain.place_until(lambda: chain.state(waited) is LeaseState.FAILED)

    chain.session.archives["job"] = [SCENE]
    later = chain.grant("0003")
    chain.place_until(lambda: chain.state(later) is not LeaseState.GRANTED)
    assert chain.state(later) is LeaseState.ORDERED


def test_a_dead_sessions_not_found_is_asked_again_with_a_new_session(chain: Chain) -> None:
    chain.session.archives["job"] = [ArchiveGone("gone"), SCENE]
    chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)
    assert chain.session.died == 1


def test_a_disabled_session_is_not_given_up_because_an_archive_is_gone(chain: Chain) -> None:
    chain.session.state = SessionState.DISABLED
    chain.session.archives["job"] = [ArchiveGone("gone")]
    lease = chain.grant()
    chain.place_until(lambda: chain.state(lease) is LeaseState.FAILED)
    assert chain.session.died == 0, "its finished frames still have to go up"


def test_closing_ends_downloads_that_are_under_way(chain: Chain) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(_request: ArchiveRequest, cancelled: Callable[[], bool]) -> None:
        begun.set()
        for _ in range(1000):
            if cancelled():
                ended.set()
                return
            threading.Event().wait(0.01)

    chain.session.during_download = endless
    chain.grant()
    chain.place()
    assert begun.wait(10)
    chain.dispatcher.close()
    assert ended.wait(10)


# Placing


def test_the_order_holds_what_the_offer_said_and_opens_with_the_public_key_alone(chain: Chain) -> None:
    chain.make(render_limit_s=1800)
    lease = chain.grant("0340", script='print("ü")\n', use_gpu=False)
    chain.place_until(lambda: len(chain.sent) == 1)
    [(signed, order, name)] = chain.sent
    assert name == "n1"
    assert open_order(signed, chain.key.public_key(), "n1") == order
    with pytest.raises(ForgedOrder):
        open_order(signed, Ed25519PrivateKey.generate().public_key(), "n1")
    with pytest.raises(ForgedOrder):
        open_order(signed, chain.key.public_key(), "n2")
    assert order == RenderOrder(
        lease_id=lease.id,
        attempt=1,
        node_id="n1",
        job_id="77",
        job_name="demo",
        frame="0340",
        revision="3",
        scene_path="demo.blend",
        command_line=".e -b .c -o .o -f .f",
        script='print("ü")\n',
        update_method="by_tile",
        use_gpu=False,
        scene_archive=ArchiveRef(md5=md5_of(SCENE), size=len(SCENE)),
        renderer_archive=ArchiveRef(md5=md5_of(RENDERER), size=len(RENDERER)),
        time_limit_s=1800,
    )
    ordered = chain.ledger.get(lease.id)
    assert (ordered.state, ordered.node_id) == (LeaseState.ORDERED, "n1")


def test_a_broker_that_takes_no_orders_gets_the_frame_back_and_everybody_hears_of_it(chain: Chain, told: Told) -> None:
    lease = chain.grant()
    chain.broker_error = BrokerDown("gone")
    with pytest.raises(BrokerDown):
        chain.place_until(lambda: False)
    back = chain.ledger.get(lease.id)
    assert (back.state, back.attempt, back.failures, back.tried_nodes) == (LeaseState.GRANTED, 2, 0, ())
    assert told.returned == [back]

    chain.broker_error = None
    chain.place_until(lambda: len(chain.sent) == 1)
    assert chain.sent[0][1].attempt == 2


def test_a_frame_that_failed_goes_to_another_pc_and_back_only_when_there_is_no_other(chain: Chain) -> None:
    chain.present = {"n1": node(archives=(md5_of(SCENE), md5_of(RENDERER)))}
    lease = chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)
    chain.claims.start(lease.id, 1, "n1", "word")
    chain.claims.fail(lease.id, 1, "n1", CRASH)

    chain.present["n2"] = node("n2", hardware={"cpu_cores": 1})
    assert chain.place() == 1
    assert chain.sent[-1][2] == "n2", "though the other is warm and stronger"
    chain.claims.take_back(chain.ledger.get(lease.id), "its PC fell silent")
    del chain.present["n2"]
    assert chain.place() == 1
    assert chain.sent[-1][2] == "n1"


def test_the_oldest_frame_gets_the_free_slot(chain: Chain) -> None:
    chain.make(look_ahead=0)
    first = chain.grant("0100")
    chain.fetched()
    chain.ledger.apply(first.id, LeaseEvent.CANCEL)
    chain.sent.clear()
    for number in ("0009", "0001", "0005"):
        chain.grant(number)
    assert chain.place() == 1, "there is one slot"
    assert chain.sent[0][1].frame == "0009"


def test_a_frame_no_pc_can_render_waits_and_lets_others_pass(chain: Chain) -> None:
    gpu = chain.grant("0001", use_gpu=True)
    chain.grant("0002")
    chain.place_until(lambda: len(chain.sent) == 1)
    assert chain.sent[0][1].frame == "0002"
    assert chain.state(gpu) is LeaseState.GRANTED


def test_a_job_goes_only_to_pcs_with_the_tags_its_operator_asks_for(chain: Chain) -> None:
    chain.make(job_tags={"dem*": ["fast"], "99": ["slow"]})
    chain.present = {"n1": node(), "n2": node("n2", tags=("fast", "night"))}
    for number in ("0001", "0002"):
        chain.grant(number)
    chain.place_until(lambda: len(chain.sent) == 2)
    assert {name for _, _, name in chain.sent} == {"n2"}


def test_a_job_goes_to_pcs_with_the_memory_that_its_frames_took_so_far(chain: Chain) -> None:
    small, large = 4 * 1024**3, 64 * 1024**3
    chain.present = {"n1": node(hardware={"ram": large})}
    first = chain.grant("0001")
    chain.place_until(lambda: len(chain.sent) == 1)
    chain.claims.start(first.id, 1, "n1", "word")
    chain.claims.deliver(first.id, 1, "n1", report(memory_kb=8 * 1024**2, render_s=10.0), [b"PNG data"])
    chain.present = {"n0": node("n0", hardware={"ram": small, "cpu_cores": 64}), "n1": chain.present["n1"]}
    chain.grant("0002")
    chain.place_until(lambda: len(chain.sent) == 2)
    assert chain.sent[-1][2] == "n1"

    del chain.present["n1"]
    chain.grant("0003")
    chain.place_until(lambda: len(chain.sent) == 3)
    assert chain.sent[-1][2] == "n0", "a PC that swaps is better than none"


@pytest.mark.parametrize("over", [0, 1])
def test_frames_that_nobody_here_may_have_do_not_make_the_farm_hoard_more_of_them(chain: Chain, over: int) -> None:
    chain.make(job_tags={"demo": ["gone"]})
    for number in range(STUCK_AT_MOST + 2 - over):
        chain.grant(f"{number:04}")
    chain.place_until(lambda: {md5_of(SCENE), md5_of(RENDERER)} <= set(chain.store.held()))
    chain.place()
    chain.look()
    assert chain.dispatcher.wanted(KEY) == over, "two places, less what is held beyond the few that keep none"


@pytest.mark.parametrize("present", [{}, {"n1": node()}], ids=["nobody is here", "nobody is able"])
def test_a_frame_nobody_could_take_for_long_goes_back_to_the_server(
    chain: Chain, told: Told, present: dict[str, Presence]
) -> None:
    chain.present = present
    lease = chain.grant(use_gpu=True)
    chain.fetched()
    chain.clock.now += NOBODY_AFTER_S - 60
    chain.place()
    assert chain.state(lease) is LeaseState.GRANTED
    chain.clock.now += 120
    chain.place()
    assert chain.state(lease) is LeaseState.FAILED
    assert "no PC" in told.gave_up[0][1].reason


def test_a_frame_that_waits_for_a_busy_pc_waits_as_long_as_it_takes(chain: Chain) -> None:
    chain.make(look_ahead=0)
    rendering(chain.ledger, "0001")
    waits = chain.grant("0002")
    chain.fetched()
    chain.clock.now += 100 * NOBODY_AFTER_S
    chain.place()
    assert chain.state(waits) is LeaseState.GRANTED


def test_a_pc_that_loses_order_after_order_does_not_get_them_all(chain: Chain) -> None:
    chain.present = {"a-strong": node("a-strong", hardware={"cpu_cores": 64}), "b-weak": node("b-weak")}
    lease = chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)
    while chain.sent[-1][2] == "a-strong":
        assert len(chain.sent) <= ORDERS_LOST
        chain.claims.take_back(chain.ledger.get(lease.id), "a-strong does not have it")
        assert chain.place() == 1
    assert chain.ledger.get(lease.id).failures == 0


def test_pcs_of_another_platform_get_none_of_this_sessions_frames(chain: Chain) -> None:
    lease = chain.grant()
    chain.place_until(lambda: len(chain.sent) == 1)
    chain.present = {"w": node("w", hardware={"os": "windows"})}
    chain.claims.take_back(chain.ledger.get(lease.id), "its PC fell silent")
    assert chain.place() == 0
    assert len(chain.sent) == 1


def test_a_frame_cancelled_while_its_archives_travel_is_not_ordered(chain: Chain) -> None:
    go_on = threading.Event()
    chain.session.during_download = lambda _request, _cancelled: go_on.wait(10)
    lease = chain.grant()
    chain.place()
    chain.ledger.apply(lease.id, LeaseEvent.CANCEL)
    go_on.set()
    assert chain.dispatcher.wake_placing.wait(10)
    assert chain.place() == 0
    assert not chain.sent


def test_a_frame_cancelled_in_the_last_moment_is_not_ordered(chain: Chain) -> None:
    chain.grant("0001")
    chain.fetched()
    chain.place_until(lambda: len(chain.sent) == 1)
    lease = chain.grant("0002")
    chain.on_look = lambda: chain.ledger.apply(lease.id, LeaseEvent.CANCEL)
    assert chain.place() == 0
    assert len(chain.sent) == 1


def test_a_lease_of_a_session_nobody_opened_is_left_alone(chain: Chain) -> None:
    lease = chain.ledger.grant(frame(), "node:unknown")
    assert chain.place() == 0
    assert chain.ledger.get(lease.id) == lease


def test_an_order_no_node_would_take_is_given_up(chain: Chain, told: Told) -> None:
    lease = chain.grant(script="#" * MAX_ORDER_BYTES)
    chain.place_until(lambda: chain.state(lease) is not LeaseState.GRANTED)
    assert chain.state(lease) is LeaseState.FAILED
    assert told.gave_up[0][1].kind is FailureKind.BAD_ORDER
    assert not chain.sent


def test_archives_of_frames_on_the_lan_are_needed_and_those_of_delivered_ones_are_not(chain: Chain) -> None:
    lease = rendering(chain.ledger, archive_md5="c" * 32)
    assert chain.tally.needed_archives() == {"c" * 32, "b" * 32}
    chain.claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    assert chain.tally.needed_archives() == set()
