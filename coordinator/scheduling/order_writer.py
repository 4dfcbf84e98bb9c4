"""Writes the order of a lease, signs it, and puts it into its node's queue."""

from __future__ import annotations

from typing import Protocol

from coordinator.leases.lease import Lease
from sheepfold.contract.orders import MAX_ORDER_BYTES, RenderOrder
from sheepfold.contract.presence import Presence
from sheepfold.contract.signing import SignedMessage

from .errors import OrderTooLarge
from .requirements import Archives


class OrderQueue(Protocol):
    """Puts an order into its node's queue (:class:`coordinator.broker.node_queues.NodeQueues`)."""

    def send(self, signed: SignedMessage, order: RenderOrder, node_name: str, /) -> None: ...


class OrderSigner(Protocol):
    """Signs with the key that nodes know (:class:`coordinator.nodes.order_signing.OrderSigner`)."""

    def order(self, order: RenderOrder, /) -> SignedMessage: ...


class OrderWriter:
    """Sends the order of a lease that the ledger already knows as ORDERED."""

    def __init__(self, queue: OrderQueue, signer: OrderSigner, *, render_limit_s: int | None) -> None:
        """``render_limit_s``: seconds after which a node ends a render; ``None``: never."""
        self._queue, self._signer, self._render_limit_s = queue, signer, render_limit_s

    def send(self, lease: Lease, node: Presence, archives: Archives) -> None:
        """Queues it, or raises :class:`OrderTooLarge` or :class:`~coordinator.nodes.errors.BrokerUnreachable`."""
        order = self._order_of(lease, node.node_id, archives)
        signed = self._signer.order(order)
        if len(signed.text.encode()) > MAX_ORDER_BYTES:
            raise OrderTooLarge(MAX_ORDER_BYTES)
        self._queue.send(signed, order, node.name)

    def _order_of(self, lease: Lease, node_id: str, archives: Archives) -> RenderOrder:
        offer = lease.offer
        return RenderOrder(
            lease_id=lease.id,
            attempt=lease.attempt,
            node_id=node_id,
            job_id=offer.job_id,
            job_name=lease.job_name,
            frame=offer.frame,
            revision=offer.revision,
            scene_path=offer.path,
            command_line=offer.renderer.command_line,
            script=offer.script,
            update_method=offer.renderer.update_method,
            use_gpu=offer.use_gpu,
            scene_archives=archives.scene,
            renderer_archive=archives.renderer,
            time_limit_s=self._render_limit_s,
            scene_locked=bool(offer.password),
            fresh_renderer=lease.held_back is not None and lease.held_back.node_id == node_id,
        )
