"""The nodes' queues on Redis: an order goes into its node's queue, a cancel goes to its node at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from celery import Celery
from kombu.exceptions import OperationalError

from coordinator.nodes.errors import BrokerUnreachable
from sheepfold.contract.celery_app import cancel_order, send_order
from sheepfold.contract.orders import RenderOrder
from sheepfold.contract.presence import Presence
from sheepfold.contract.signing import SignedMessage

log = logging.getLogger(__name__)


class PresentNodes(Protocol):
    """Who is on the LAN (:class:`coordinator.nodes.present_nodes.PresentNodes`)."""

    @property
    def nodes(self) -> Mapping[str, Presence]: ...


class CancelSigner(Protocol):
    """Signs with the key that nodes know (:class:`coordinator.nodes.order_signing.OrderSigner`)."""

    def cancel(self, node_id: str, lease_id: str, attempt: int, /) -> SignedMessage: ...


class NodeQueues:
    """Sends orders and cancels to nodes. Thread-safe; connects when it is first used."""

    def __init__(self, app: Celery, present: PresentNodes, signer: CancelSigner) -> None:
        self._app, self._present, self._signer = app, present, signer

    def send(self, signed: SignedMessage, order: RenderOrder, node_name: str) -> None:
        """Raises :class:`~coordinator.nodes.errors.BrokerUnreachable` where Redis does not take it."""
        try:
            send_order(self._app, signed, order, node_name)
        except OperationalError as error:
            raise BrokerUnreachable(f"it does not take orders: {error}") from None

    def cancel(self, node_id: str | None, lease_id: str, attempt: int) -> None:
        """Tells a node that is here to end an attempt; one that misses it is told again when nodes are reconciled."""
        node = self._present.nodes.get(node_id or "")
        if node is not None:
            try:
                cancel_order(self._app, node.name, self._signer.cancel(node.node_id, lease_id, attempt))
            except (OperationalError, BrokerUnreachable) as error:
                log.warning("%s could not be told to stop: %s", node.name, error)
