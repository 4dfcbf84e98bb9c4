"""The farm's key, and what it signs."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.leases.key_value import KeyValueStore
from coordinator.leases.ledger import Ledger
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.order_signing import OrderSigner
from sheepfold.contract.signing import Cancel, FarmKey, open_cancel, open_order, public_key_from, public_key_text
from tests.support.wire.contract_messages import ORDER

NOW = 1_000_000.0


@pytest.fixture
def store(ledger: Ledger) -> KeyValueStore:
    return KeyValueStore(ledger.database)


def signer(store: KeyValueStore, now: float | None = NOW) -> OrderSigner:
    return OrderSigner(store, lambda: "f1", lambda: now)


def test_orders_and_cancels_open_with_what_a_node_is_told_when_it_joins(store: KeyValueStore) -> None:
    ours = signer(store)
    farm = FarmKey(farm_id=ours.farm_id, order_key=public_key_from(ours.order_key))
    order = open_order(ours.order(ORDER), farm, "n1", NOW)
    assert (order.order, order.stamp.sent_at) == (ORDER, NOW)
    assert open_cancel(ours.cancel("n1", "ab12", 3), farm, "n1", NOW).cancel == Cancel(
        node_id="n1", lease_id="ab12", attempt=3
    )


def test_without_redis_time_nothing_is_signed(store: KeyValueStore) -> None:
    with pytest.raises(BrokerUnreachable, match="what time it is"):
        signer(store, None).order(ORDER)
    with pytest.raises(BrokerUnreachable):
        signer(store, None).cancel("n1", "ab12", 3)


def test_the_key_is_the_same_after_a_restart(store: KeyValueStore, ledger: Ledger) -> None:
    first = signer(store).order_key
    assert signer(KeyValueStore(ledger.database)).order_key == first
    store.delete("order-key")
    assert signer(store).order_key != first


def test_the_kept_key_is_the_one_that_is_used(store: KeyValueStore) -> None:
    key = Ed25519PrivateKey.generate()
    store.put("order-key", base64.b64encode(key.private_bytes_raw()).decode())
    assert signer(store).order_key == public_key_text(key)
