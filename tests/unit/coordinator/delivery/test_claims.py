from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.delivery.claims import Claims
from coordinator.delivery.errors import BrokenPicture, CutOff, NotYourLease, StaleClaim
from coordinator.delivery.spool import Spool
from coordinator.delivery.validation import FrameValidator
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from coordinator.leases.ledger import Ledger
from sheepfold.contract.api_messages import FailureKind, FailureReport
from sheepfold.contract.failure_causes import Cause, cause_of
from sheepfold.limited.errors import ChildUnavailable
from sheepfold.pictures import Picture
from tests.support.coordinator.builders import ClaimRecord, Listener, look, offer, rendering, report

CRASH = FailureReport(kind=FailureKind.RENDERER_CRASHED, reason="signal 11", log="boom")


def test_an_attempt_starts_once_however_often_its_order_arrives(ledger: Ledger, claims: Claims) -> None:
    lease = ledger.grant(offer(), "s")
    ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n1")

    claims.start(lease.id, 1, "n1", "first")
    claims.start(lease.id, 1, "n1", "first")  # its answer was lost

    with pytest.raises(StaleClaim):
        claims.start(lease.id, 1, "n1", "second")  # its order was doubled
    assert ledger.get(lease.id).state is LeaseState.RENDERING


@pytest.mark.parametrize(("attempt", "node"), [(2, "n1"), (1, "n2"), (0, "n1")])
def test_another_attempt_or_node_is_stale(ledger: Ledger, claims: Claims, attempt: int, node: str) -> None:
    lease = rendering(ledger)
    for claim in (
        lambda: claims.start(lease.id, attempt, node, "x"),
        lambda: claims.deliver(lease.id, attempt, node, report(), [b"PNG data"]),
        lambda: claims.fail(lease.id, attempt, node, CRASH),
    ):
        with pytest.raises(StaleClaim):
            claim()
    assert ledger.get(lease.id) == lease


def test_a_lease_nobody_knows_is_stale(claims: Claims) -> None:
    with pytest.raises(StaleClaim):
        claims.start("f" * 32, 1, "n1", "x")


def test_a_picture_is_in_the_spool_before_the_ledger_says_delivered(
    ledger: Ledger, claims: Claims, spool: Spool, claim_record: ClaimRecord
) -> None:
    lease = rendering(ledger)
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG ", b"data"])

    delivered = ledger.get(lease.id)
    assert delivered.state is LeaseState.DELIVERED
    assert delivered.delivery is not None
    assert spool.path(delivered.delivery.picture).read_bytes() == b"PNG data"
    assert (delivered.delivery.size, delivered.delivery.memory_kb, delivered.delivery.cores) == (8, 5000, 2)
    assert claim_record.delivered == [delivered]


def test_a_delivery_whose_answer_was_lost_is_answered_again_and_kept_once(
    ledger: Ledger, claims: Claims, spool: Spool, claim_record: ClaimRecord
) -> None:
    lease = rendering(ledger)
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    assert len(claim_record.delivered) == 1
    assert len(list(spool.names())) == 1


def test_a_picture_that_was_cut_off_costs_no_attempt(ledger: Ledger, claims: Claims, spool: Spool) -> None:
    lease = rendering(ledger)
    with pytest.raises(CutOff):
        claims.deliver(lease.id, 1, "n1", report(), [b"PNG d"])
    assert ledger.get(lease.id) == lease
    assert not list(spool.names())


def test_what_is_no_picture_never_waits_for_the_server(
    ledger: Ledger, claims: Claims, spool: Spool, claim_record: ClaimRecord
) -> None:
    lease = rendering(ledger)
    with pytest.raises(BrokenPicture, match="no picture"):
        claims.deliver(lease.id, 1, "n1", report(b"black"), [b"black"])
    back = ledger.get(lease.id)
    assert (back.state, back.attempt, back.tried_nodes) == (LeaseState.GRANTED, 2, ("n1",))
    assert not list(spool.names())
    assert claim_record.returned == [back]


def test_a_failed_frame_is_tried_elsewhere_and_then_given_up_with_its_log(
    ledger: Ledger, claims: Claims, claim_record: ClaimRecord
) -> None:
    lease = rendering(ledger)
    claims.fail(lease.id, 1, "n1", CRASH)
    ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n2")
    claims.start(lease.id, 2, "n2", "x")
    claims.fail(lease.id, 2, "n2", CRASH)

    assert ledger.get(lease.id).state is LeaseState.FAILED
    [(failed, failure)] = claim_record.gave_up
    assert failed.id == lease.id
    assert failure.log == "boom"
    assert claim_record.failed == [("n1", FailureKind.RENDERER_CRASHED), ("n2", FailureKind.RENDERER_CRASHED)]


def test_lost_nodes_use_up_no_attempt(ledger: Ledger, claims: Claims, claim_record: ClaimRecord) -> None:
    lease = rendering(ledger)
    for attempt in range(1, 8):
        claims.take_back(ledger.get(lease.id), "silent")
        ledger.apply(lease.id, LeaseEvent.ORDER, node_id=f"n{attempt + 1}")
    back = ledger.get(lease.id)
    assert (back.attempt, back.failures, back.tried_nodes) == (8, 0, ())
    assert not claim_record.gave_up


def test_the_late_picture_of_a_lost_node_is_stale(ledger: Ledger, claims: Claims) -> None:
    lost = rendering(ledger, "0001", "n1")
    claims.take_back(lost, "its PC fell silent")
    assert ledger.get(lost.id).state is LeaseState.GRANTED
    with pytest.raises(StaleClaim):
        claims.deliver(lost.id, 1, "n1", report(), [b"PNG data"])


def test_a_picture_that_arrives_after_the_cancel_is_dropped(ledger: Ledger, claims: Claims, spool: Spool) -> None:
    lease = rendering(ledger)
    ledger.apply(lease.id, LeaseEvent.CANCEL)
    with pytest.raises(StaleClaim):
        claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    assert not list(spool.names())


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if cause_of(kind) is Cause.NODE])
def test_a_pcs_own_trouble_costs_the_frame_no_attempt(
    ledger: Ledger, spool: Spool, claim_record: ClaimRecord, kind: FailureKind
) -> None:
    troubled: list[Lease] = []
    events = claim_record.listener(node_failed=lambda lease, _failure: troubled.append(lease))
    claims = Claims(ledger, spool, lambda _lease, _path: None, events, attempts=2)
    lease = rendering(ledger)
    for attempt in range(1, 8):
        claims.fail(lease.id, attempt, "n1", FailureReport(kind=kind, reason="it is so"))
        back = ledger.get(lease.id)
        assert (back.state, back.failures, back.tried_nodes) == (LeaseState.GRANTED, 0, ())
        ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n1")
        claims.start(lease.id, attempt + 1, "n1", "x")
    assert not claim_record.failed
    assert not claim_record.gave_up
    # A worker that leaves is in no trouble: nobody is paused for it.
    assert [trouble.node_id for trouble in troubled] == ([] if kind is FailureKind.NODE_LEAVING else ["n1"] * 7)


def test_what_turns_out_to_be_the_frames_own_trouble_costs_it_attempts(
    ledger: Ledger, spool: Spool, claim_record: ClaimRecord
) -> None:
    claims = Claims(
        ledger,
        spool,
        lambda _lease, _path: None,
        claim_record.listener(),
        attempts=2,
        is_frames_fault=lambda _lease, _node: True,
    )
    lease = rendering(ledger)
    claims.fail(lease.id, 1, "n1", FailureReport(kind=FailureKind.DISK_FULL, reason="it writes without end"))
    ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n1")
    claims.start(lease.id, 2, "n1", "x")
    claims.fail(lease.id, 2, "n1", FailureReport(kind=FailureKind.DISK_FULL, reason="it writes without end"))
    assert ledger.get(lease.id).state is LeaseState.FAILED


def test_what_is_the_scenes_fault_is_tried_twice_however_many_attempts_others_have(
    ledger: Ledger, spool: Spool, claim_record: ClaimRecord
) -> None:
    scenes: list[tuple[str | None, FailureKind]] = []
    events = claim_record.listener(scene_failed=lambda lease, failure: scenes.append((lease.node_id, failure.kind)))
    claims = Claims(ledger, spool, lambda _lease, _path: None, events, attempts=9)
    lease = rendering(ledger)
    no_camera = FailureReport(kind=FailureKind.NO_CAMERA, reason="Cannot render, no camera")
    claims.fail(lease.id, 1, "n1", no_camera)
    ledger.apply(lease.id, LeaseEvent.ORDER, node_id="n2")
    claims.start(lease.id, 2, "n2", "x")
    claims.fail(lease.id, 2, "n2", no_camera)
    assert ledger.get(lease.id).reason == "no camera: Cannot render, no camera"
    assert ledger.get(lease.id).state is LeaseState.FAILED
    assert scenes == [("n1", FailureKind.NO_CAMERA), ("n2", FailureKind.NO_CAMERA)]


BLACK = b"PNG black"


def again(ledger: Ledger, claims: Claims, lease: Lease, node: str) -> Lease:
    """The second render of a frame has begun."""
    ledger.apply(lease.id, LeaseEvent.ORDER, node_id=node)
    claims.start(lease.id, ledger.get(lease.id).attempt, node, "second")
    return ledger.get(lease.id)


def deliver(claims: Claims, lease: Lease, data: bytes) -> None:
    assert lease.node_id
    claims.deliver(lease.id, lease.attempt, lease.node_id, report(data), [data])


def held_back(ledger: Ledger, claims: Claims, frame: str, node: str = "n1") -> Lease:
    """A lease whose picture waits for a second opinion."""
    lease = rendering(ledger, frame, node)
    deliver(claims, lease, BLACK)
    return ledger.get(lease.id)


@pytest.fixture
def accepted_neighbour(ledger: Ledger, claims: Claims) -> Lease:
    """The frame before the others; it shows something."""
    lease = rendering(ledger, "0001")
    deliver(claims, lease, b"PNG data")
    return ledger.get(lease.id)


@pytest.mark.usefixtures("accepted_neighbour")
def test_a_doubtful_picture_is_kept_and_costs_its_frame_and_its_pc_nothing(
    ledger: Ledger, claims: Claims, spool: Spool, claim_record: ClaimRecord
) -> None:
    lease = held_back(ledger, claims, "0002")
    assert (lease.state, lease.attempt, lease.failures, lease.tried_nodes) == (LeaseState.GRANTED, 2, 0, ())
    assert lease.held_back
    assert spool.path(lease.held_back.delivery.picture).read_bytes() == BLACK
    assert "wholly black" in lease.reason
    assert claim_record.returned == [lease]
    assert (claim_record.failed, claim_record.held_back[0][0]) == ([], "n1")
    with pytest.raises(StaleClaim):  # its answer was lost: the node may drop it
        claims.deliver(lease.id, 1, "n1", report(BLACK), [BLACK])


@pytest.mark.parametrize("second", ["n2", "n1"])
@pytest.mark.usefixtures("accepted_neighbour")
def test_a_frame_that_is_black_twice_is_delivered(
    ledger: Ledger, claims: Claims, spool: Spool, claim_record: ClaimRecord, second: str
) -> None:
    lease = again(ledger, claims, held_back(ledger, claims, "0002"), second)
    deliver(claims, lease, BLACK)
    now = ledger.get(lease.id)
    assert (now.state, now.failures, now.held_back) == (LeaseState.DELIVERED, 0, None)
    assert now.delivery
    assert now.delivery.is_confirmed
    assert now.delivery.picture in spool.names()
    assert len(spool.names()) == 2, "the lit frame's picture and this one's"
    assert [absolved.id for absolved in claim_record.absolved] == [lease.id]


@pytest.mark.usefixtures("accepted_neighbour")
def test_a_second_picture_that_shows_something_takes_the_place_of_the_black_one(
    ledger: Ledger, claims: Claims, spool: Spool, claim_record: ClaimRecord
) -> None:
    lease = again(ledger, claims, held_back(ledger, claims, "0002", "ill"), "n2")
    deliver(claims, lease, b"PNG data")
    delivered = ledger.get(lease.id).delivery
    assert delivered
    assert not delivered.is_empty
    assert len(spool.names()) == 2
    assert claim_record.delivered[-1].node_id == "n2"
    assert not claim_record.absolved


@pytest.mark.usefixtures("accepted_neighbour")
def test_frames_behind_a_believed_one_go_as_they_were_rendered_first(
    ledger: Ledger, claims: Claims, spool: Spool, claim_record: ClaimRecord
) -> None:
    first, *others = [held_back(ledger, claims, f"{number:04}") for number in range(2, 6)]
    ordered = ledger.apply(others[1].id, LeaseEvent.ORDER, node_id="n3")
    under_way = again(ledger, claims, others[2], "n4")
    deliver(claims, again(ledger, claims, first, "n2"), BLACK)
    assert {ledger.get(lease.id).state for lease in others} == {LeaseState.DELIVERED}
    for lease in others:
        delivery = ledger.get(lease.id).delivery
        assert delivery
        assert (delivery.picture, delivery.is_confirmed) == (f"{lease.id}.1.png", True)
        assert spool.path(delivery.picture).read_bytes() == BLACK
    assert {lease.node_id for lease in claim_record.overtaken} == {None, ordered.node_id, under_way.node_id}
    with pytest.raises(StaleClaim):
        claims.start(ordered.id, 2, "n3", "late")
    with pytest.raises(StaleClaim):
        deliver(claims, under_way, BLACK)
    assert len(spool.names()) == 5


@pytest.mark.usefixtures("accepted_neighbour")
def test_a_restart_keeps_what_was_held_back(
    ledger: Ledger, claims: Claims, spool: Spool, claim_record: ClaimRecord
) -> None:
    lease = held_back(ledger, claims, "0003")
    after = Claims(
        ledger, spool, FrameValidator(look, claim_record.absolved.append), claim_record.listener(), attempts=2
    ).load()
    deliver(after, rendering(ledger, "0002"), BLACK)  # nothing is known of the frames next to it
    assert ledger.get(lease.id).state is LeaseState.DELIVERED, "the frame before it is black, too"


@pytest.mark.usefixtures("accepted_neighbour")
def test_a_frame_that_is_given_up_leaves_no_picture_behind(ledger: Ledger, claims: Claims, spool: Spool) -> None:
    lease = held_back(ledger, claims, "0002")
    for number in (2, 3):
        again(ledger, claims, lease, "n2")
        claims.fail(lease.id, number, "n2", CRASH)
    assert ledger.get(lease.id).state is LeaseState.FAILED
    assert len(spool.names()) == 1


@pytest.mark.usefixtures("accepted_neighbour")
def test_a_doubtful_picture_that_comes_too_late_is_dropped(ledger: Ledger, claims: Claims, spool: Spool) -> None:
    lease = rendering(ledger, "0002")

    def chunks() -> Iterator[bytes]:
        yield BLACK
        ledger.apply(lease.id, LeaseEvent.CANCEL)

    with pytest.raises(StaleClaim):
        claims.deliver(lease.id, 1, "n1", report(BLACK), chunks())
    assert len(spool.names()) == 1


def test_a_frame_under_which_three_nodes_went_down_fails_and_its_report_says_so(
    ledger: Ledger, claims: Claims, claim_record: ClaimRecord
) -> None:
    lease = rendering(ledger)
    claims.node_lost(lease, "its PC fell silent")
    assert not ledger.get(lease.id).is_suspect
    for node_id in ("n2", "n3"):
        ledger.apply(lease.id, LeaseEvent.ORDER, node_id=node_id)
        claims.node_lost(ledger.apply(lease.id, LeaseEvent.START), "its PC was started anew")
    after = ledger.get(lease.id)
    assert (after.state, after.failures, after.nodes_lost) == (LeaseState.FAILED, 0, 2)
    assert after.reason == (
        "takes PCs down: 3 PCs went down while they rendered it, the last one with no other frame beside it "
        "(its PC was started anew)"
    )
    assert [(given_up.id, why.kind) for given_up, why in claim_record.gave_up] == [(lease.id, FailureKind.NODES_DOWN)]
    assert [attempt.outcome for attempt in ledger.attempts(lease.id)] == ["node lost", "node lost", "failed"]


def test_a_picture_that_nobody_can_look_at_now_is_no_failure_and_comes_again(ledger: Ledger, spool: Spool) -> None:
    calls: list[int] = []

    def busy_once(path: Path) -> Picture:
        calls.append(1)
        if len(calls) == 1:
            raise ChildUnavailable
        return look(path)

    claims = Claims(ledger, spool, FrameValidator(busy_once, lambda _lease: None), Listener(), attempts=2)
    lease = rendering(ledger)
    with pytest.raises(ChildUnavailable):
        claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    assert spool.names() == []
    assert (ledger.get(lease.id).state, ledger.get(lease.id).failures) == (LeaseState.RENDERING, 0)
    claims.deliver(lease.id, 1, "n1", report(), [b"PNG data"])
    assert ledger.get(lease.id).state is LeaseState.DELIVERED


def test_the_very_attempt_of_another_node_is_refused_and_changes_nothing(ledger: Ledger, claims: Claims) -> None:
    lease = rendering(ledger, node="n1")
    for claim in (
        lambda: claims.start(lease.id, 1, "n2", "x"),
        lambda: claims.deliver(lease.id, 1, "n2", report(), [b"PNG data"]),
        lambda: claims.fail(lease.id, 1, "n2", CRASH),
    ):
        with pytest.raises(NotYourLease):
            claim()
    with pytest.raises(StaleClaim) as stale:
        claims.start(lease.id, 2, "n2", "x")
    assert not isinstance(stale.value, NotYourLease), "a node that was thought dead is told to drop it"
    assert ledger.get(lease.id) == lease
