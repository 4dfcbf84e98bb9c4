"""Granted frames become orders."""

from __future__ import annotations

import threading

import pytest

from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.scheduling.asking import STUCK_AT_MOST
from coordinator.scheduling.placing import NOBODY_AFTER_S
from coordinator.scheduling.requirements import ORDERS_LOST
from lab.server.store.renderers import launcher
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.orders import MAX_ORDER_BYTES, ArchiveRef, RenderOrder
from sheepfold.contract.presence import Presence
from sheepfold.contract.signing import FarmKey, open_order, public_key_from
from sheepfold.protocol.messages import RendererOffer
from tests.support.coordinator.builders import ClaimRecord, rendering, report
from tests.support.coordinator.dispatcher_harness import DispatcherHarness, Troubles, frame
from tests.support.coordinator.fakes import KEY, RENDERER, SCENE, md5_of, node

CRASH = FailureReport(kind=FailureKind.RENDERER_CRASHED, reason="signal 11")


def test_the_order_holds_what_the_offer_said_and_opens_with_the_public_key_alone(harness: DispatcherHarness) -> None:
    harness.make(render_limit_s=1800)
    lease = harness.grant("0340", script='print("ü")\n', use_gpu=False)
    harness.place_until(lambda: len(harness.sent) == 1)
    [(signed, order, name)] = harness.sent
    assert name == "n1"
    farm = FarmKey(farm_id="f1", order_key=public_key_from(harness.signer.order_key))
    assert open_order(signed, farm, "n1", now=1_000_000.0).order == order
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
        scene_archives=(ArchiveRef(md5=md5_of(SCENE), size=len(SCENE)),),
        renderer_archive=ArchiveRef(md5=md5_of(RENDERER), size=len(RENDERER)),
        time_limit_s=1800,
    )
    ordered = harness.ledger.get(lease.id)
    assert (ordered.state, ordered.node_id) == (LeaseState.ORDERED, "n1")


def test_without_the_time_nothing_is_ordered_and_the_frame_waits(harness: DispatcherHarness) -> None:
    lease = harness.grant()
    harness.redis_time = None
    with pytest.raises(BrokerUnreachable, match="what time it is"):
        harness.place_until(lambda: False)
    assert not harness.sent
    assert harness.state(lease) is LeaseState.GRANTED


def test_a_broker_that_takes_no_orders_gets_the_frame_back_and_everybody_hears_of_it(
    harness: DispatcherHarness, claim_record: ClaimRecord
) -> None:
    lease = harness.grant()
    harness.broker_error = BrokerUnreachable("gone")
    with pytest.raises(BrokerUnreachable):
        harness.place_until(lambda: False)
    back = harness.ledger.get(lease.id)
    assert (back.state, back.attempt, back.failures, back.tried_nodes) == (LeaseState.GRANTED, 2, 0, ())
    assert claim_record.returned == [back]

    harness.broker_error = None
    harness.place_until(lambda: len(harness.sent) == 1)
    assert harness.sent[0][1].attempt == 2


def test_a_frame_that_failed_goes_to_another_pc_and_back_only_when_there_is_no_other(
    harness: DispatcherHarness,
) -> None:
    harness.present = {"n1": node(archives=(md5_of(SCENE), md5_of(RENDERER)))}
    lease = harness.grant()
    harness.place_until(lambda: len(harness.sent) == 1)
    harness.claims.start(lease.id, 1, "n1", "word")
    harness.claims.fail(lease.id, 1, "n1", CRASH)

    harness.present["n2"] = node("n2", hardware={"cpu_cores": 1})
    assert harness.place() == 1
    assert harness.sent[-1][2] == "n2", "though the other is warm and stronger"
    harness.claims.take_back(harness.ledger.get(lease.id), "its PC fell silent")
    del harness.present["n2"]
    assert harness.place() == 1
    assert harness.sent[-1][2] == "n1"


def hold_back_a_black_frame(harness: DispatcherHarness, node_id: str) -> Lease:
    """A lease whose picture waits for a second opinion; the frame before it shows something."""
    lease = harness.grant("0002")
    harness.place_until(lambda: len(harness.sent) == 1)
    for delivered, data in ((rendering(harness.ledger, "0001"), b"PNG data"), (lease, b"PNG black")):
        if delivered is lease:
            harness.claims.start(lease.id, 1, node_id, "word")
        harness.claims.deliver(delivered.id, 1, node_id, report(data), [data])
    return harness.ledger.get(lease.id)


def test_a_second_opinion_comes_from_another_pc_however_it_renders(harness: DispatcherHarness) -> None:
    harness.present = {"n1": node(archives=(md5_of(SCENE), md5_of(RENDERER)))}
    lease = hold_back_a_black_frame(harness, "n1")
    harness.present["n2"] = node("n2", hardware={"cpu_cores": 1})
    assert harness.place() == 1
    _, order, name = harness.sent[-1]
    assert (order.lease_id, order.attempt, name, order.fresh_renderer) == (lease.id, 2, "n2", False)


def test_a_second_opinion_waits_for_the_other_pc_while_it_is_busy(harness: DispatcherHarness) -> None:
    harness.make(look_ahead=0)
    lease = hold_back_a_black_frame(harness, "n1")
    harness.present["n2"] = node("n2")
    busy = rendering(harness.ledger, "0009", "n2")
    assert harness.place() == 0, "what makes black pictures is not asked whether they are right"
    harness.claims.deliver(busy.id, 1, "n2", report(), [b"PNG data"])
    assert harness.place() == 1
    assert (harness.sent[-1][1].lease_id, harness.sent[-1][2]) == (lease.id, "n2")


@pytest.mark.parametrize("alone", ["gone", "quarantined", "leaving"])
def test_where_there_is_no_other_pc_the_same_one_gives_it_with_a_fresh_renderer(
    harness: DispatcherHarness, alone: str
) -> None:
    lease = hold_back_a_black_frame(harness, "n1")
    if alone != "gone":
        harness.present["n2"] = node("n2", accepting=alone != "leaving")
        harness.quarantined = {"n2"} if alone == "quarantined" else set()
    assert harness.place() == 1
    _, order, name = harness.sent[-1]
    assert (order.lease_id, order.attempt, name, order.fresh_renderer) == (lease.id, 2, "n1", True)


def test_the_oldest_frame_gets_the_free_slot(harness: DispatcherHarness) -> None:
    harness.make(look_ahead=0)
    first = harness.grant("0100")
    harness.fetched()
    harness.ledger.apply(first.id, LeaseEvent.CANCEL)
    harness.sent.clear()
    for number in ("0009", "0001", "0005"):
        harness.grant(number)
    assert harness.place() == 1, "there is one slot"
    assert harness.sent[0][1].frame == "0009"


def test_a_frame_no_pc_can_render_waits_and_lets_others_pass(harness: DispatcherHarness) -> None:
    gpu = harness.grant("0001", use_gpu=True)
    harness.grant("0002")
    harness.place_until(lambda: len(harness.sent) == 1)
    assert harness.sent[0][1].frame == "0002"
    assert harness.state(gpu) is LeaseState.GRANTED


def test_a_job_goes_only_to_pcs_with_the_tags_its_operator_asks_for(harness: DispatcherHarness) -> None:
    harness.make(job_tags={"dem*": ["fast"], "99": ["slow"]})
    harness.present = {"n1": node(), "n2": node("n2", tags=("fast", "night"))}
    for number in ("0001", "0002"):
        harness.grant(number)
    harness.place_until(lambda: len(harness.sent) == 2)
    assert {name for _, _, name in harness.sent} == {"n2"}


def test_a_job_goes_to_pcs_with_the_memory_that_its_frames_took_so_far(harness: DispatcherHarness) -> None:
    small, large = 4 * 1024**3, 64 * 1024**3
    harness.present = {"n1": node(hardware={"ram": large})}
    first = harness.grant("0001")
    harness.place_until(lambda: len(harness.sent) == 1)
    harness.claims.start(first.id, 1, "n1", "word")
    harness.claims.deliver(first.id, 1, "n1", report(memory_kb=8 * 1024**2, render_s=10.0), [b"PNG data"])
    harness.present = {"n0": node("n0", hardware={"ram": small, "cpu_cores": 64}), "n1": harness.present["n1"]}
    harness.grant("0002")
    harness.place_until(lambda: len(harness.sent) == 2)
    assert harness.sent[-1][2] == "n1"

    del harness.present["n1"]
    harness.grant("0003")
    harness.place_until(lambda: len(harness.sent) == 3)
    assert harness.sent[-1][2] == "n0", "a PC that swaps is better than none"


@pytest.mark.parametrize("over", [0, 1])
def test_frames_that_nobody_here_may_have_do_not_make_the_farm_hoard_more_of_them(
    harness: DispatcherHarness, over: int
) -> None:
    harness.make(job_tags={"demo": ["gone"]})
    for number in range(STUCK_AT_MOST + 2 - over):
        harness.grant(f"{number:04}")
    harness.place_until(lambda: {md5_of(SCENE), md5_of(RENDERER)} <= set(harness.store.held()))
    harness.place()
    harness.look()
    assert harness.requester.wanted(KEY) == over, "two places, less what is held beyond the few that keep none"


@pytest.mark.parametrize("present", [{}, {"n1": node()}], ids=["nobody is here", "nobody is able"])
def test_a_frame_nobody_could_take_for_long_goes_back_to_the_server(
    harness: DispatcherHarness, claim_record: ClaimRecord, present: dict[str, Presence]
) -> None:
    harness.present = present
    lease = harness.grant(use_gpu=True)
    harness.fetched()
    harness.clock.now += NOBODY_AFTER_S - 60
    harness.place()
    assert harness.state(lease) is LeaseState.GRANTED
    harness.clock.now += 120
    harness.place()
    assert harness.state(lease) is LeaseState.FAILED
    assert "no PC" in claim_record.gave_up[0][1].reason


def test_a_frame_that_waits_for_a_busy_pc_waits_as_long_as_it_takes(harness: DispatcherHarness) -> None:
    harness.make(look_ahead=0)
    rendering(harness.ledger, "0001")
    waits = harness.grant("0002")
    harness.fetched()
    harness.clock.now += 100 * NOBODY_AFTER_S
    harness.place()
    assert harness.state(waits) is LeaseState.GRANTED


def test_a_pc_that_loses_order_after_order_does_not_get_them_all(harness: DispatcherHarness) -> None:
    harness.present = {"a-strong": node("a-strong", hardware={"cpu_cores": 64}), "b-weak": node("b-weak")}
    lease = harness.grant()
    harness.place_until(lambda: len(harness.sent) == 1)
    while harness.sent[-1][2] == "a-strong":
        assert len(harness.sent) <= ORDERS_LOST
        harness.claims.take_back(harness.ledger.get(lease.id), "a-strong does not have it")
        assert harness.place() == 1
    assert harness.ledger.get(lease.id).failures == 0


def test_pcs_of_another_platform_get_none_of_this_sessions_frames(harness: DispatcherHarness) -> None:
    lease = harness.grant()
    harness.place_until(lambda: len(harness.sent) == 1)
    harness.present = {"w": node("w", hardware={"os": "windows"})}
    harness.claims.take_back(harness.ledger.get(lease.id), "its PC fell silent")
    assert harness.place() == 0
    assert len(harness.sent) == 1


def test_a_frame_cancelled_while_its_archives_travel_is_not_ordered(harness: DispatcherHarness) -> None:
    go_on = threading.Event()
    harness.session.during_download = lambda _request, _cancelled: go_on.wait(10)
    lease = harness.grant()
    harness.place()
    harness.ledger.apply(lease.id, LeaseEvent.CANCEL)
    go_on.set()
    assert harness.wakeups.placing.wait(10)
    assert harness.place() == 0
    assert not harness.sent


def test_a_frame_cancelled_in_the_last_moment_is_not_ordered(harness: DispatcherHarness) -> None:
    harness.grant("0001")
    harness.fetched()
    harness.place_until(lambda: len(harness.sent) == 1)
    lease = harness.grant("0002")
    harness.on_look = lambda: harness.ledger.apply(lease.id, LeaseEvent.CANCEL)
    assert harness.place() == 0
    assert len(harness.sent) == 1


def test_a_lease_of_a_session_nobody_opened_is_left_alone(harness: DispatcherHarness) -> None:
    lease = harness.ledger.grant(frame(), "node:unknown")
    assert harness.place() == 0
    assert harness.ledger.get(lease.id) == lease


def test_an_order_no_node_would_take_is_given_up(harness: DispatcherHarness, claim_record: ClaimRecord) -> None:
    lease = harness.grant(script="#" * MAX_ORDER_BYTES)
    harness.place_until(lambda: harness.state(lease) is not LeaseState.GRANTED)
    assert harness.state(lease) is LeaseState.FAILED
    assert claim_record.gave_up[0][1].kind is FailureKind.BAD_ORDER
    assert not harness.sent


def test_archives_of_frames_on_the_lan_are_needed_and_those_of_delivered_ones_are_not(
    harness: DispatcherHarness,
) -> None:
    lease = rendering(harness.ledger, archive_md5="c" * 32)
    assert harness.tally.needed_archives() == {"c" * 32, "b" * 32}
    harness.claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    assert harness.tally.needed_archives() == set()


def test_a_launcher_goes_to_the_pc_that_has_a_blender(harness: DispatcherHarness) -> None:
    archive = launcher("linux/64bit")
    harness.session.archives["binary"] = [archive]
    harness.make_with_launchers()
    harness.present = {"a": node("a", hardware={"cpu_cores": 64}), "b": node("b", blender="3.4.1")}
    renderer = RendererOffer(md5=md5_of(archive), command_line=".e -b .c -o .o -f .f", update_method="")
    for number in ("0001", "0002"):
        harness.grant(number, renderer=renderer)
    harness.place_until(lambda: len(harness.sent) == 2)
    assert {name for _, _, name in harness.sent} == {"b"}


def test_a_frame_that_pcs_in_trouble_had_again_and_again_goes_back_after_the_known_time(
    harness: DispatcherHarness, claim_record: ClaimRecord
) -> None:
    troubles = Troubles(reasons="pc1: disk full: make room")
    troubled = troubles.seconds
    harness.make(troubles=troubles)
    harness.present = {}
    lease = harness.grant()
    harness.fetched()
    troubled[lease.id] = NOBODY_AFTER_S - 1
    harness.place()
    assert harness.state(lease) is LeaseState.GRANTED
    troubled[lease.id] = NOBODY_AFTER_S + 1
    harness.place()
    assert harness.state(lease) is LeaseState.FAILED
    assert claim_record.gave_up[0][1].kind is FailureKind.NODE_LEAVING, "that is no failure of the frame"
    assert claim_record.gave_up[0][1].reason.endswith("(pc1: disk full: make room)")


def test_a_frame_that_pcs_had_trouble_with_waits_behind_the_others(harness: DispatcherHarness) -> None:
    first = harness.grant("0001")
    harness.fetched()
    harness.ledger.apply(first.id, LeaseEvent.CANCEL)
    harness.sent.clear()
    suspect = harness.grant("0002")
    harness.make(look_ahead=0, troubles=Troubles({suspect.id: 5.0}))
    harness.grant("0003")
    assert harness.place() == 1
    assert harness.sent[0][1].frame == "0003"
