"""kombu's Redis transport, behind a guard: Celery sees orders, cancels and pings, and nothing else.

Celery ends its worker for a message that is not JSON or lacks a property, and unpacks whatever says that it is
compressed. The guard reads each message before kombu does
(:mod:`sheepfold.contract.broker_messages`); what is wrong is counted and dropped.

kombu would keep in Redis which queues are bound to which exchange. Orders go straight into a node's queue, and control
messages to all who listen, so nobody reads that of a node; it is not written, and a node needs no right to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import redis
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Channel, Transport

from sheepfold.contract.broker_messages import read_control_message, read_task_message
from sheepfold.contract.codec import to_json
from sheepfold.contract.errors import MalformedContract

from .bounded_connection import BoundedConnection, BoundedTlsConnection
from .refusals import Refusals, Refused


def install_guard(refusals: Refusals) -> None:
    """Every connection that Celery opens to a Redis from now on, in this process, is guarded."""
    transport = _guarded_transport(refusals)
    aliases = cast("dict[str, Any]", TRANSPORT_ALIASES)
    # kombu calls what is callable; TLS stays with the name.
    aliases["redis"] = aliases["rediss"] = lambda: transport


class UnboundChannel(Channel):
    """A channel that keeps nothing in Redis of what is bound to what."""

    auto_delete_queues: set[str]
    _fanout_queues: dict[str, tuple[str, str]]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        if self.typeof(exchange).type == "fanout":
            self._fanout_queues[queue] = (exchange, routing_key.replace("#", "*"))

    def _delete(self, queue: str, *arguments: Any, **options: Any) -> None:
        """A queue that ends with its worker is one of control messages, of which Redis keeps none."""
        self.auto_delete_queues.discard(queue)

    def maybe_refresh_binding_expiry(self) -> None:
        """There is nothing that could expire."""


def _guarded_transport(refusals: Refusals) -> type[Transport]:
    def read(what: Refused, reader: Callable[[bytes], dict[str, Any]], raw: bytes) -> bytes:
        """The message made anew; empty where it is refused."""
        try:
            return to_json(reader(raw)).encode()
        except MalformedContract as error:
            refusals.add(what, error)
            return b""

    class GuardedRedis(redis.Redis):
        def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
            answer = cast("Any", super()).parse_response(connection, command_name, **options)
            if command_name != "BRPOP" or not answer:
                return answer
            queue, raw = answer
            message = read(Refused.TASK, read_task_message, raw)
            # ``None`` is what Redis says when nothing came.
            return (queue, message) if message else None

    class GuardedChannel(UnboundChannel):
        connection_class = BoundedConnection
        connection_class_ssl = BoundedTlsConnection

        def _get_client(self) -> Any:
            return GuardedRedis

        def _handle_message(self, client: Any, r: Any) -> dict[str, Any]:
            payload: dict[str, Any] = cast("Any", super())._handle_message(client, r)  # noqa: SLF001
            if bytes(payload["type"]).endswith(b"message"):
                payload["data"] = read(Refused.COMMAND, read_control_message, payload["data"])
            return payload

    class GuardedTransport(Transport):
        Channel = GuardedChannel

    return GuardedTransport
