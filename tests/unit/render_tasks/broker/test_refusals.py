"""What a worker refuses is counted, and told without a flood."""

from __future__ import annotations

import logging

import pytest

from render_tasks.broker.refusals import TOLD_EVERY_S, Refusals, Refused
from sheepfold.contract.errors import ForgedMessage, MalformedContract, OtherFarm
from tests.support.clocks import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def refusals(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> Refusals:
    caplog.set_level(logging.DEBUG)
    return Refusals(clock=clock)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


def test_the_first_of_a_kind_is_told_at_once_and_a_flood_once_a_minute(
    refusals: Refusals, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        refusals.add(Refused.TASK, MalformedContract("not JSON"))
    clock.now += TOLD_EVERY_S - 0.1
    refusals.add(Refused.TASK, MalformedContract("not JSON"))
    assert lines(caplog) == ["refused a message in the queue: not JSON (1 since the start)"]
    clock.now += 0.1
    refusals.add(Refused.TASK, MalformedContract("a list"))
    assert lines(caplog)[1:] == ["refused a message in the queue: a list (1002 since the start)"]
    assert refusals.counts == {Refused.TASK: 1002}


def test_a_flood_of_one_kind_hides_no_other(refusals: Refusals, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(10):
        refusals.add(Refused.ORDER, ForgedMessage("forged"))
        refusals.add(Refused.CANCEL, ForgedMessage("forged"))
        refusals.add(Refused.ORDER, OtherFarm("f2"))
    assert lines(caplog) == [
        "refused an order: forged (1 since the start)",
        "refused a cancel: forged (1 since the start)",
        "refused an order: it was made for farm 'f2', not for this one (2 since the start)",
    ]
    assert refusals.counts == {Refused.ORDER: 20, Refused.CANCEL: 10}


def test_a_long_reason_is_cut(refusals: Refusals, caplog: pytest.LogCaptureFixture) -> None:
    refusals.add(Refused.COMMAND, MalformedContract("x" * 10_000))
    assert len(lines(caplog)[0]) < 400
