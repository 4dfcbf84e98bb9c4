"""Orders and cancels on their way to a node's queue."""

from __future__ import annotations

from typing import Any, cast

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from coordinator.broker import node_queues
from coordinator.broker.node_queues import NodeQueues
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.present_nodes import PresentNodes
from sheepfold.contract.signing import SignedMessage
from tests.support.coordinator.fakes import node
from tests.support.wire.contract_messages import ORDER

SIGNED = SignedMessage(text="{}", signature="c2ln")


class Signer:
    """Signs anything, as long as Redis tells the time."""

    def __init__(self) -> None:
        self.knows_the_time = True
        self.signed: list[tuple[str, str, int]] = []

    def cancel(self, node_id: str, lease_id: str, attempt: int) -> SignedMessage:
        if not self.knows_the_time:
            raise BrokerUnreachable("it does not say what time it is")
        self.signed.append((node_id, lease_id, attempt))
        return SIGNED


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def queues(signer: Signer) -> NodeQueues:
    present = PresentNodes()
    present.nodes = {"n1": node("n1", name="pc-03")}
    return NodeQueues(cast("Celery", None), present, signer)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, SignedMessage]]:
    """Cancels that went to Redis."""
    sent: list[tuple[str, SignedMessage]] = []
    monkeypatch.setattr(node_queues, "cancel_order", lambda _app, name, signed: sent.append((name, signed)))
    return sent


def away(*_: Any) -> None:
    raise OperationalError("Redis is away")


def test_a_cancel_is_signed_for_its_node_and_sent_under_its_name(
    queues: NodeQueues, signer: Signer, sent: list[tuple[str, SignedMessage]]
) -> None:
    queues.cancel("n1", "ab12", 3)
    assert signer.signed == [("n1", "ab12", 3)]
    assert sent == [("pc-03", SIGNED)]


@pytest.mark.parametrize("node_id", ["n2", "", None])
def test_a_node_that_is_not_here_is_told_nothing(
    queues: NodeQueues, signer: Signer, sent: list[tuple[str, SignedMessage]], node_id: str | None
) -> None:
    queues.cancel(node_id, "ab12", 3)
    assert (signer.signed, sent) == ([], [])


def test_a_cancel_that_cannot_be_signed_or_sent_is_told_and_stops_nobody(
    queues: NodeQueues, signer: Signer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_queues, "cancel_order", away)
    queues.cancel("n1", "ab12", 3)
    signer.knows_the_time = False
    queues.cancel("n1", "ab12", 3)
    assert [record.message for record in caplog.records] == [
        "pc-03 could not be told to stop: Redis is away",
        "pc-03 could not be told to stop: Redis cannot be used: it does not say what time it is",
    ]


def test_an_order_that_redis_does_not_take_is_an_error_of_ours(
    queues: NodeQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_queues, "send_order", away)
    with pytest.raises(BrokerUnreachable, match="it does not take orders"):
        queues.send(SIGNED, ORDER, "pc-03")
