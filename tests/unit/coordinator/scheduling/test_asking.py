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
from tests.support.coordinator.dispatcher_harness import Chain, frame, gives
from tests.support.coordinator.fakes import KEY, RENDERER, SCENE, md5_of, node


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
    with chain.pressure.track(), chain.pressure.track():
        assert chain.requester.wanted(KEY) == 0
        assert not chain.ask()
    assert not chain.session.asked
    assert chain.requester.wanted(KEY) == 2
    assert chain.ask()


def test_pcs_that_are_quarantined_get_nothing_and_make_no_room(chain: Chain) -> None:
    chain.present, chain.quarantined = {"n1": node(), "n2": node("n2")}, {"n1"}
    chain.session.answers = gives(*(frame(f"{number:04}") for number in range(9)))
    assert chain.ask_all() == 2
    chain.place_until(lambda: len(chain.sent) == 2)
    assert {name for _, _, name in chain.sent} == {"n2"}

    chain.quarantined = {"n1", "n2"}
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
    chain.wakeups.placing.clear()
    assert chain.ask()
    [lease] = chain.ledger.leases(LeaseState.GRANTED)
    assert (lease.offer, lease.session_key) == (frame("0340"), KEY)
    assert chain.wakeups.placing.is_set()
    assert chain.requester.frames_remaining == 7


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
        disk.setattr(chain.ledger.database, "write", full)
        for _ in range(3):
            with pytest.raises(LedgerError):
                chain.ask()
    assert len(chain.session.asked) == 1
    [(told, _)] = chain.session.reports
    assert (told.job, told.frame, told.extras) == ("77", "0340", "opaque")
    assert chain.ask(), "there is room again"
    assert [lease.offer.frame for lease in chain.ledger.leases()] == ["0341"]


# What is blocked


def test_a_frame_of_a_blocked_job_is_given_back_and_the_session_waits(chain: Chain) -> None:
    chain.blocks.block("77", "demo", "no camera", BlockedBy.FARM)
    chain.session.answers = gives(frame("0340"), frame("0341"))
    assert not chain.ask(), "nothing more is asked for at once"
    assert chain.ledger.leases() == []
    assert [lease.state for lease in chain.ledger.leases(LeaseState.CANCELLED)] == [LeaseState.CANCELLED]
    [why] = chain.session.judged
    assert why is not None
    assert "job 77 · demo" in why


def test_a_frame_that_is_wanted_ends_the_waits_for_those_that_are_not(chain: Chain) -> None:
    chain.blocks.block("78", "other", "no camera", BlockedBy.FARM)
    chain.session.answers = gives(frame("0340"))
    assert chain.ask()
    assert chain.session.judged == [None]


def test_archives_the_server_wants_gone_are_dropped_with_a_blocked_offer_too(chain: Chain) -> None:
    chain.blocks.block("77", "demo", "no camera", BlockedBy.FARM)
    chain.grant(job_id="78")
    chain.fetched()
    chain.ledger.apply(chain.ledger.leases()[0].id, LeaseEvent.CANCEL)
    chain.session.answers = [JobAnswer(status=JobStatus.OK, offer=frame(), delete_archives=(md5_of(SCENE),))]
    assert not chain.ask()
    assert chain.store.path_of(md5_of(SCENE)) is None


def test_a_job_blocked_between_grant_and_order_is_not_ordered(chain: Chain) -> None:
    lease, other = chain.grant("0001"), chain.grant("0101", job_id="78")
    chain.blocks.block("77", "demo", "no camera", BlockedBy.FARM)
    chain.place_until(lambda: bool(chain.sent))
    assert [order.job_id for _, order, _ in chain.sent] == ["78"]
    assert chain.state(lease) is LeaseState.CANCELLED
    assert chain.state(other) is LeaseState.ORDERED
