"""A worker asks again where Redis is, and believes only its own farm."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from render_tasks.errors import CoordinatorUnreachable, FarmChanged
from render_tasks.startup.rejoining import REJOIN_EVERY_S, Rejoining
from sheepfold.contract.api_messages import JoinAnswer
from sheepfold.contract.signing import FarmKey
from tests.support.wire.contract_messages import FARM

JOINED = JoinAnswer(name="pc", redis_url="redis://one", queue="q", farm_id="f1", order_key="k")


class Farm:
    """What the coordinator answers now, and a clock."""

    def __init__(self) -> None:
        self.answer: JoinAnswer | Exception = JOINED
        self.asked = 0
        self.now = 1000.0
        self.rejoining = Rejoining(JOINED, self._ask, self._accept, clock=lambda: self.now)

    def _ask(self) -> JoinAnswer:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _accept(self, answer: JoinAnswer) -> FarmKey:
        if answer.farm_id != "f1":
            raise FarmChanged("f1", answer.farm_id)
        return FARM

    def has_moved(self) -> bool:
        """Asked when it may be asked."""
        self.now += REJOIN_EVERY_S
        return self.rejoining.has_moved()


@pytest.fixture
def farm() -> Farm:
    return Farm()


def test_the_same_answer_is_no_move(farm: Farm) -> None:
    assert not farm.has_moved()
    assert farm.asked == 1


@pytest.mark.parametrize("change", [{"redis_url": "redis://two"}, {"queue": "q2"}, {"name": "pc-02"}])
def test_another_redis_or_identity_is_one(farm: Farm, change: dict[str, str]) -> None:
    farm.answer = replace(JOINED, **change)
    assert farm.has_moved()


def test_a_storm_of_reasons_is_one_question(farm: Farm) -> None:
    farm.rejoining.has_moved()
    farm.answer = replace(JOINED, queue="q2")
    assert not any(farm.rejoining.has_moved() for _ in range(50))
    assert farm.asked == 1
    assert farm.has_moved()


def test_another_farm_is_not_followed_and_the_trouble_is_told_until_it_is_over(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    farm.answer = replace(JOINED, farm_id="f2", redis_url="redis://false")
    assert not farm.has_moved()
    assert "this PC belongs to farm f1" in farm.rejoining.trouble
    assert "forget-farm" in caplog.text
    farm.answer = CoordinatorUnreachable("join", "no answer in time")
    assert not farm.has_moved()
    assert farm.rejoining.trouble, "silence mends nothing"
    farm.answer = JOINED
    assert not farm.has_moved()
    assert farm.rejoining.trouble == ""
