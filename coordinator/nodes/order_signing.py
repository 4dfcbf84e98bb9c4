"""Signs orders and cancels for the farm's nodes, with the farm's own key and the time by Redis' clock."""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.leases.key_value import KeyValueStore
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.signing import Cancel, FarmKey, SignedMessage, Stamp, public_key_text, sign_cancel, sign_order

from .errors import BrokerUnreachable

log = logging.getLogger(__name__)

_ORDER_KEY = "order-key"


class OrderSigner:
    """Keeps the key that nodes know. Thread-safe; touches the ledger when it is first asked."""

    def __init__(
        self, store: KeyValueStore, farm_id: Callable[[], str], redis_time: Callable[[], float | None]
    ) -> None:
        """``redis_time`` gives Unix seconds by Redis' clock, ``None`` where Redis has never answered."""
        self._store, self._farm_id, self._redis_time = store, farm_id, redis_time
        self._lock = threading.Lock()
        self._key: Ed25519PrivateKey | None = None

    @property
    def farm_id(self) -> str:
        """Which farm nodes are told they belong to."""
        return self._farm_id()

    @property
    def order_key(self) -> str:
        """The public key that nodes check with, as text."""
        return public_key_text(self._private_key())

    def order(self, order: RenderOrder) -> SignedMessage:
        """The order as it travels. Raises :class:`BrokerUnreachable` where nobody says what time it is."""
        return sign_order(order, self._stamp(), self._private_key())

    def cancel(self, node_id: str, lease_id: str, attempt: int) -> SignedMessage:
        """A cancel as it travels; raises as :meth:`order` does."""
        cancel = Cancel(node_id=node_id, lease_id=lease_id, attempt=attempt)
        return sign_cancel(cancel, self._stamp(), self._private_key())

    def _stamp(self) -> Stamp:
        now = self._redis_time()
        if now is None:
            raise BrokerUnreachable("it does not say what time it is")
        return Stamp(farm_id=self.farm_id, sent_at=now)

    def _private_key(self) -> Ed25519PrivateKey:
        """Made once and kept in the ledger, which only its owner can read."""
        with self._lock:
            if self._key is None:
                self._key = _kept_key(self._store)
                farm = FarmKey(farm_id=self.farm_id, order_key=self._key.public_key())
                log.info("nodes know this coordinator as farm %s", farm.label)
            return self._key


def _kept_key(store: KeyValueStore) -> Ed25519PrivateKey:
    kept = store.get(_ORDER_KEY)
    if kept is not None:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(kept))
    key = Ed25519PrivateKey.generate()
    store.put(_ORDER_KEY, base64.b64encode(key.private_bytes_raw()).decode("ascii"))
    return key
