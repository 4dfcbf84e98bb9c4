"""Orders and cancels that the coordinator did not send to this node now, in a real Redis: a real worker follows none.

Each is refused with a line in the log, nothing of it reaches the coordinator, and a good order afterwards renders.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from render_tasks.broker.refusals import Refused
from sheepfold.contract.codec import to_json
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.signing import (
    CANCEL_GOOD_FOR_S,
    CLOCKS_DIFFER_S,
    ORDER_GOOD_FOR_S,
    Cancel,
    CancelEnvelope,
    OrderEnvelope,
    SignedMessage,
    Stamp,
    sign_cancel,
    sign_order,
)
from tests.support.nodes.worker_harness import FakeCoordinator, WorkerHarness, wait_for
from tests.support.nodes.worker_probes import rendering

FOREVER, TWO_SECONDS = "900", "905"
#: More than two clocks may differ by.
FAR_S = 2 * CLOCKS_DIFFER_S
#: The worker tells each refusal, and not only the first of a kind in a minute.
TELLS_ALL = (
    "from render_tasks.broker import refusals; refusals.TOLD_EVERY_S = 0.0;"
    "from sheepfold.cli import main; main(['worker'])"
)


@pytest.fixture(scope="module")
def node(redis_available: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerHarness]:
    """A running node that the tests of this file share; none of them ends it."""
    with contextlib.closing(WorkerHarness(tmp_path_factory.mktemp("node"), SHEEPFOLD_SLOTS="2")) as node:
        node.program = TELLS_ALL
        yield node.start().until_ready()


def sent_at(coordinator: FakeCoordinator, seconds_from_now: float) -> Stamp:
    return dataclasses.replace(coordinator.stamp(), sent_at=time.time() + seconds_from_now)


def altered(signed: SignedMessage, old: str, new: str) -> SignedMessage:
    assert old in signed.text
    return dataclasses.replace(signed, text=signed.text.replace(old, new))


def farms(coordinator: FakeCoordinator, farm_id: str) -> Stamp:
    return dataclasses.replace(coordinator.stamp(), farm_id=farm_id)


def cancel_of(order: RenderOrder, **changes: str) -> Cancel:
    cancel = Cancel(node_id=order.node_id, lease_id=order.lease_id, attempt=order.attempt)
    return dataclasses.replace(cancel, **changes)


#: What it is → makes it, and what the log says of it.
ORDERS: dict[str, tuple[Callable[[FakeCoordinator, RenderOrder], SignedMessage], str]] = {
    "forged": (
        lambda of, order: sign_order(order, of.stamp(), Ed25519PrivateKey.generate()),
        "not signed by this farm's coordinator",
    ),
    "not signed": (
        lambda of, order: SignedMessage(text=to_json(OrderEnvelope(stamp=of.stamp(), order=order)), signature=""),
        "not signed by this farm's coordinator",
    ),
    "altered": (
        lambda of, order: altered(of.signed(order), '"scene_path":"shots/', '"scene_path":"../'),
        "not signed by this farm's coordinator",
    ),
    "made younger": (
        lambda of, order: altered(sign_order(order, Stamp(farm_id=of.farm_id, sent_at=5.0), of.key), ":5.0", ":6e9"),
        "not signed by this farm's coordinator",
    ),
    "with another message's signature": (
        lambda of, order: dataclasses.replace(
            of.signed(order), signature=sign_cancel(cancel_of(order), of.stamp(), of.key).signature
        ),
        "not signed by this farm's coordinator",
    ),
    "too old": (
        lambda of, order: sign_order(order, sent_at(of, -ORDER_GOOD_FOR_S - 5), of.key),
        "is good for 900 s",
    ),
    "from the future": (lambda of, order: sign_order(order, sent_at(of, FAR_S), of.key), "s from now by Redis' clock"),
    "for another node": (
        lambda of, order: of.signed(dataclasses.replace(order, node_id="another-node")),
        "made for node 'another-node'",
    ),
    "of another farm": (
        lambda of, order: sign_order(order, farms(of, "farm-2"), of.key),
        "made for farm 'farm-2'",
    ),
    "a cancel": (lambda of, order: sign_cancel(cancel_of(order), of.stamp(), of.key), "not a OrderEnvelope"),
}
CANCELS: dict[str, tuple[Callable[[FakeCoordinator, RenderOrder], SignedMessage], str]] = {
    "forged": (
        lambda of, order: sign_cancel(cancel_of(order), of.stamp(), Ed25519PrivateKey.generate()),
        "not signed by this farm's coordinator",
    ),
    "not signed": (
        lambda of, order: SignedMessage(
            text=to_json(CancelEnvelope(stamp=of.stamp(), cancel=cancel_of(order))), signature=""
        ),
        "not signed by this farm's coordinator",
    ),
    "altered": (
        lambda of, order: altered(
            sign_cancel(cancel_of(order, lease_id="another"), of.stamp(), of.key), "another", order.lease_id
        ),
        "not signed by this farm's coordinator",
    ),
    "too old": (
        lambda of, order: sign_cancel(cancel_of(order), sent_at(of, -CANCEL_GOOD_FOR_S - 5), of.key),
        "is good for 60 s",
    ),
    "from the future": (
        lambda of, order: sign_cancel(cancel_of(order), sent_at(of, FAR_S), of.key),
        "s from now by Redis' clock",
    ),
    "for another node": (
        lambda of, order: sign_cancel(cancel_of(order, node_id="another-node"), of.stamp(), of.key),
        "made for node 'another-node'",
    ),
    "of another farm": (
        lambda of, order: sign_cancel(cancel_of(order), farms(of, "farm-2"), of.key),
        "made for farm 'farm-2'",
    ),
    "an order": (lambda of, order: of.signed(order), "not a CancelEnvelope"),
}


def refusals_of(node: WorkerHarness, what: Refused, why: str) -> int:
    """How many lines of the log tell of it."""
    lines = node.log.read_text().splitlines()
    return sum(f"refused {what.value}" in line and why in line for line in lines)


def delivers(node: WorkerHarness) -> bool:
    """An order that comes now is rendered."""
    order = node.order("1")
    wait_for(lambda: order.lease_id in node.coordinator.frames, what="a frame after the attack")
    return True


@pytest.mark.parametrize("what", ORDERS)
def test_an_order_that_is_not_for_this_node_now_is_refused(node: WorkerHarness, what: str) -> None:
    make, why = ORDERS[what]
    order = node.order_for("1")
    before = refusals_of(node, Refused.ORDER, why)
    node.send(make(node.coordinator, order), order)
    wait_for(lambda: refusals_of(node, Refused.ORDER, why) == before + 1, what=f"a line that tells: {why}")
    assert delivers(node)
    seen = {lease_id for lease_id, _ in node.coordinator.starts} | node.coordinator.failures.keys()
    assert order.lease_id not in seen | node.coordinator.frames.keys()


def test_an_order_that_was_carried_out_is_refused_when_it_comes_again(node: WorkerHarness) -> None:
    order = node.order_for("1")
    signed = node.coordinator.signed(order)
    node.send(signed, order)
    wait_for(lambda: order.lease_id in node.coordinator.frames)
    for times in (1, 2):
        node.send(signed, order)
        wait_for(lambda times=times: refusals_of(node, Refused.ORDER, "followed here before") == times)
    assert delivers(node)
    assert node.coordinator.starts.count((order.lease_id, 1)) == 1


@pytest.mark.parametrize("what", CANCELS)
def test_a_cancel_that_is_not_for_this_node_now_ends_nothing(node: WorkerHarness, what: str) -> None:
    make, why = CANCELS[what]
    order = node.order(FOREVER)
    wait_for(lambda: rendering(node, order))
    before = refusals_of(node, Refused.CANCEL, why)
    node.send_cancel(make(node.coordinator, order))
    wait_for(lambda: refusals_of(node, Refused.CANCEL, why) == before + 1, what=f"a line that tells: {why}")
    assert delivers(node), "in the other slot"
    assert rendering(node, order)
    node.cancel(order)
    wait_for(lambda: not rendering(node, order), what="a good cancel ends it")


def test_a_cancel_that_was_followed_is_refused_when_it_comes_again(node: WorkerHarness) -> None:
    order = node.order(FOREVER)
    wait_for(lambda: rendering(node, order))
    signed = sign_cancel(cancel_of(order), node.coordinator.stamp(), node.coordinator.key)
    node.send_cancel(signed)
    wait_for(lambda: not rendering(node, order))
    node.send_cancel(signed)
    wait_for(lambda: refusals_of(node, Refused.CANCEL, "followed here before") == 1)
    assert delivers(node)


def test_a_worker_that_was_killed_takes_the_same_order_again(own_node: WorkerHarness) -> None:
    """Whoever hands it over once more, Celery or Redis: whether it may be begun is for the start-fence to say."""
    own_node.start().until_ready()
    order = own_node.order_for(TWO_SECONDS)
    signed = own_node.coordinator.signed(order)
    own_node.send(signed, order)
    wait_for(lambda: rendering(own_node, order))
    own_node.stop(signal.SIGKILL)
    own_node.send(signed, order)
    waiting = own_node.order("2")
    own_node.start().until_ready(times=2)
    wait_for(lambda: {order.lease_id, waiting.lease_id} <= own_node.coordinator.frames.keys())
    assert own_node.coordinator.starts.count((order.lease_id, 1)) == 2
