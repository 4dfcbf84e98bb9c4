"""Which fault comes next. What each does to a connection is tested over HTTP."""

import pytest

from lab.errors import BadInput
from lab.server.fault_injection import RANDOM_ACTIONS, RANDOM_DOWNLOAD_ACTIONS, Fault, FaultPlan


def test_a_scripted_fault_hits_the_next_requests_of_its_exchange_and_no_others():
    plan = FaultPlan()
    plan.script(Fault(exchange="request-job", action="status:202", count=2))
    plan.script(Fault(exchange="request-job", action="drop"))
    assert plan.next("keepmealive") is None
    assert [plan.next("request-job") for _ in range(4)] == ["status:202", "status:202", "drop", None]
    assert plan.happened == {"request-job status:202": 2, "request-job drop": 1}


def test_the_same_seed_gives_the_same_faults():
    def faults(seed):
        plan = FaultPlan(rate=0.3, seed=seed)
        return [plan.next("request-job") for _ in range(300)]

    assert faults(7) == faults(7)
    assert faults(7) != faults(8)


def test_the_rate_is_about_what_was_asked_for():
    plan = FaultPlan(rate=0.1, seed=1)
    happened = [plan.next("download-archive") for _ in range(3000)]
    assert 200 < sum(1 for action in happened if action) < 400
    assert {action for action in happened if action} == set(RANDOM_DOWNLOAD_ACTIONS)


def test_random_faults_never_lie_about_a_status():
    assert not any(action.startswith("status") for action in RANDOM_ACTIONS)


def test_nothing_happens_unless_asked_for():
    plan = FaultPlan()
    plan.script(Fault(exchange="error", action="garbage"))
    plan.clear()
    assert [plan.next("error") for _ in range(100)] == [None] * 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"exchange": "nonsense", "action": "drop"},
        {"exchange": "error", "action": "explode"},
        {"exchange": "error", "action": "http:200"},
        {"exchange": "error", "action": "slow:-1"},
        {"exchange": "error", "action": "drop", "count": 0},
    ],
)
def test_a_fault_nobody_knows_is_refused(wrong):
    with pytest.raises(BadInput):
        Fault(**wrong)
