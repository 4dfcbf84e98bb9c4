"""Free places become leases."""

from __future__ import annotations

import pytest

from coordinator.jobs.blocks import BlockedBy
from coordinator.leases.errors import LedgerError
from coordinator.leases.lease import Lease, LeaseEvent, LeaseState
from sheepfold.contract.presence import Compute, Presence
from sheepfold.protocol.messages import ComputeMethod, JobAnswer
from sheepfold.protocol.status import JobStatus
from tests.support.coordinator.builders import report
from tests.support.coordinator.dispatcher_harness import DispatcherHarness, frame, gives
from tests.support.coordinator.fakes import KEY, RENDERER, SCENE, md5_of, node


def test_frames_are_asked_for_only_while_slots_and_look_ahead_have_room(harness: DispatcherHarness) -> None:
    harness.present = {"n1": node(slots=2)}
    harness.session.answers = gives(*(frame(f"{number:04}") for number in range(9)))
    assert harness.ask_all() == 4, "two slots, and one ahead for each"
    assert len(harness.session.asked) == 4, "the server is not troubled where there is no room"

    harness.place_until(lambda: len(harness.sent) == 4)
    assert harness.ask_all() == 0

    done = harness.ledger.leases(LeaseState.ORDERED)[0]
    harness.claims.start(done.id, 1, "n1", "word")
    assert harness.ask_all() == 0
    harness.claims.deliver(done.id, 1, "n1", report(render_s=10.0), [b"PNG data"])
    assert harness.ask_all() == 1


@pytest.mark.parametrize("present", [{}, {"n1": node(accepting=False)}])
def test_nothing_is_asked_for_while_nobody_could_render_it(
    harness: DispatcherHarness, present: dict[str, Presence]
) -> None:
    harness.present = present
    harness.session.answers = gives(frame())
    assert not harness.ask()
    assert not harness.session.asked


def test_nothing_is_asked_for_while_nodes_queue_for_answers(harness: DispatcherHarness) -> None:
    harness.session.answers = gives(frame())
    harness.look()
    with harness.pressure.track(), harness.pressure.track():
        assert harness.requester.wanted(KEY) == 0
        assert not harness.ask()
    assert not harness.session.asked
    assert harness.requester.wanted(KEY) == 2
    assert harness.ask()


def test_pcs_that_are_quarantined_get_nothing_and_make_no_room(harness: DispatcherHarness) -> None:
    harness.present, harness.quarantined = {"n1": node(), "n2": node("n2")}, {"n1"}
    harness.session.answers = gives(*(frame(f"{number:04}") for number in range(9)))
    assert harness.ask_all() == 2
    harness.place_until(lambda: len(harness.sent) == 2)
    assert {name for _, _, name in harness.sent} == {"n2"}

    harness.quarantined = {"n1", "n2"}
    lease = harness.grant("0100")
    assert harness.place() == 0
    assert harness.state(lease) is LeaseState.GRANTED


def test_the_server_is_asked_for_what_the_free_pcs_can_do_and_told_what_we_hold(harness: DispatcherHarness) -> None:
    harness.grant()
    harness.fetched()
    harness.present = {"n1": node(slots=3), "n2": node("n2", compute=Compute.GPU)}
    harness.ask()
    assert harness.session.asked == [(ComputeMethod.CPU_OR_GPU, tuple(sorted([md5_of(SCENE), md5_of(RENDERER)])))]
    harness.present = {"n2": node("n2", compute=Compute.GPU)}
    harness.ask()
    assert harness.session.asked[1][0] is ComputeMethod.GPU_ONLY


def test_frames_that_wait_for_a_gpu_do_not_keep_other_pcs_idle(harness: DispatcherHarness) -> None:
    harness.make(look_ahead=0)
    harness.present = {"gpu": node("gpu", compute=Compute.GPU), "cpu": node("cpu")}
    for number in ("0001", "0002"):
        harness.grant(number, use_gpu=True)
    harness.place_until(lambda: len(harness.sent) == 1)
    harness.session.answers = gives(frame("0003"))
    assert harness.ask(), "the second GPU frame waits for its PC; the other PC has nothing to do"
    assert harness.session.asked == [(ComputeMethod.CPU_ONLY, tuple(sorted([md5_of(SCENE), md5_of(RENDERER)])))]


def test_a_frame_is_granted_under_its_session_and_wakes_the_placing(harness: DispatcherHarness) -> None:
    harness.session.answers = gives(frame("0340"))
    harness.wakeups.placing.clear()
    assert harness.ask()
    [lease] = harness.ledger.leases(LeaseState.GRANTED)
    assert (lease.offer, lease.session_key) == (frame("0340"), KEY)
    assert harness.wakeups.placing.is_set()
    assert harness.requester.frames_remaining == 7


def test_a_frame_that_must_go_up_first_holds_its_session_back_until_it_has_ended(harness: DispatcherHarness) -> None:
    harness.present = {"n1": node(slots=8)}
    harness.session.answers = gives(frame("0001", synchronous_upload=True), *(frame(f"{n:04}") for n in range(2, 9)))
    assert harness.ask_all() == 1
    [lease] = harness.ledger.leases()
    for event, node_id in ((LeaseEvent.ORDER, "n1"), (LeaseEvent.START, None), (LeaseEvent.DELIVER, None)):
        harness.ledger.apply(lease.id, event, node_id=node_id)
        assert not harness.ask(), f"held back while it is {harness.state(lease)}"
    assert len(harness.session.asked) == 1
    harness.ledger.apply(lease.id, LeaseEvent.ACCEPT)
    assert harness.ask()


def test_another_sessions_frame_holds_nobody_back(harness: DispatcherHarness) -> None:
    harness.ledger.grant(frame(synchronous_upload=True), "node:other")
    harness.session.answers = gives(frame())
    assert harness.ask()


def test_archives_the_server_wants_gone_are_dropped_unless_a_live_lease_needs_them(harness: DispatcherHarness) -> None:
    lease = harness.grant()
    harness.place_until(lambda: bool(harness.sent))
    both = (md5_of(SCENE), md5_of(RENDERER))
    harness.session.answers = [JobAnswer(status=JobStatus.NO_JOB, delete_archives=both)] * 2
    assert not harness.ask()
    assert harness.store.path_of(md5_of(SCENE)) is not None, "the lease's node may still fetch it"
    assert harness.store.held() == [], "the server is not told of it any more"

    harness.ledger.apply(lease.id, LeaseEvent.CANCEL)
    assert not harness.ask()
    assert harness.store.path_of(md5_of(SCENE)) is None
    assert harness.store.path_of(md5_of(RENDERER)) is None


def test_an_archive_that_the_same_answer_wants_gone_and_needs_is_not_fetched_twice(harness: DispatcherHarness) -> None:
    first = harness.grant()
    harness.fetched()
    harness.ledger.apply(first.id, LeaseEvent.CANCEL)
    harness.session.answers = [JobAnswer(status=JobStatus.OK, offer=frame("0002"), delete_archives=(md5_of(SCENE),))]
    assert harness.ask()
    harness.place_until(lambda: any(order.frame == "0002" for _, order, _ in harness.sent))
    assert len(harness.session.downloads) == 2


def test_a_frame_the_ledger_cannot_take_goes_back_to_the_server_and_no_other_is_asked_for(
    harness: DispatcherHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Lease:
        raise LedgerError("no room")

    harness.session.answers = gives(frame("0340"), frame("0341"))
    with monkeypatch.context() as disk:
        disk.setattr(harness.ledger.database, "write", full)
        for _ in range(3):
            with pytest.raises(LedgerError):
                harness.ask()
    assert len(harness.session.asked) == 1
    [(error_report, _)] = harness.session.reports
    assert (error_report.job, error_report.frame, error_report.extras) == ("77", "0340", "opaque")
    assert harness.ask(), "there is room again"
    assert [lease.offer.frame for lease in harness.ledger.leases()] == ["0341"]


# What is blocked


def test_a_frame_of_a_blocked_job_is_given_back_and_the_session_waits(harness: DispatcherHarness) -> None:
    harness.blocks.block("77", "demo", "no camera", BlockedBy.FARM)
    harness.session.answers = gives(frame("0340"), frame("0341"))
    assert not harness.ask(), "nothing more is asked for at once"
    assert harness.ledger.leases() == []
    assert [lease.state for lease in harness.ledger.leases(LeaseState.CANCELLED)] == [LeaseState.CANCELLED]
    [why] = harness.session.judged
    assert why is not None
    assert "job 77 · demo" in why


def test_a_frame_that_is_wanted_ends_the_waits_for_those_that_are_not(harness: DispatcherHarness) -> None:
    harness.blocks.block("78", "other", "no camera", BlockedBy.FARM)
    harness.session.answers = gives(frame("0340"))
    assert harness.ask()
    assert harness.session.judged == [None]


def test_archives_the_server_wants_gone_are_dropped_with_a_blocked_offer_too(harness: DispatcherHarness) -> None:
    harness.blocks.block("77", "demo", "no camera", BlockedBy.FARM)
    harness.grant(job_id="78")
    harness.fetched()
    harness.ledger.apply(harness.ledger.leases()[0].id, LeaseEvent.CANCEL)
    harness.session.answers = [JobAnswer(status=JobStatus.OK, offer=frame(), delete_archives=(md5_of(SCENE),))]
    assert not harness.ask()
    assert harness.store.path_of(md5_of(SCENE)) is None


def test_a_job_blocked_between_grant_and_order_is_not_ordered(harness: DispatcherHarness) -> None:
    lease, other = harness.grant("0001"), harness.grant("0101", job_id="78")
    harness.blocks.block("77", "demo", "no camera", BlockedBy.FARM)
    harness.place_until(lambda: bool(harness.sent))
    assert [order.job_id for _, order, _ in harness.sent] == ["78"]
    assert harness.state(lease) is LeaseState.CANCELLED
    assert harness.state(other) is LeaseState.ORDERED
