"""The Celery application both sides share, and how orders and cancels travel over it.

Importable without any worker code: the coordinator's dispatcher makes an app, sends orders and cancels. What Flower
shows is decided here too: a task's argument text is ``frame 0012 · demo · pc-03`` and nothing else, so that neither the
server's script nor the signature appears; the real arguments travel in the message body alone.

Every setting below was measured, see ``docs/decisions/``. The two that matter most: early acknowledgement, because
the lease and its attempt number decide and redelivery adds nothing; one queue per node, because the coordinator chooses
by hardware and cache.
"""

from __future__ import annotations

from celery import Celery

from .orders import CANCEL_COMMAND, RENDER_TASK, RenderOrder, celery_name_of, queue_of
from .signing import SignedMessage

#: A publish that fails is tried again this often, then the dispatcher hears of it; a doubled order is harmless.
PUBLISH_POLICY = {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}

_SETTINGS = {
    "task_acks_late": False,
    "worker_prefetch_multiplier": 1,
    "task_ignore_result": True,
    # True killed a render on a 5 s blip of the network.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_connection_timeout": 5,
    # A key of another type in the place of a queue is Redis' error, not the worker's end.
    "broker_channel_error_retry": True,
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],
    "worker_send_task_events": True,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "broker_transport_options": {
        # No `unacked` keys, no sweep, no duplicate through a skewed clock.
        "ack_emulation": False,
        "socket_keepalive": True,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
        "priority_steps": list(range(10)),
        "sep": ":",
        "queue_order_strategy": "priority",
    },
}


def make_app(redis_url: str) -> Celery:
    """A Celery app on this Redis; it connects when it is first used."""
    app = Celery("sheepfold", broker=redis_url, set_as_current=False)
    app.conf.update(_SETTINGS)
    return app


def task_id_of(lease_id: str, attempt: int) -> str:
    """The Celery task id of one attempt."""
    return f"{lease_id}.{attempt}"


def attempt_of(task_id: str) -> tuple[str, int]:
    """The inverse of :func:`task_id_of`; raises ``ValueError`` for a task id of any other making."""
    lease_id, _, attempt = task_id.rpartition(".")
    if not lease_id:
        raise ValueError(f"{task_id!r} names no attempt")
    return lease_id, int(attempt)


def send_order(app: Celery, signed: SignedMessage, order: RenderOrder, node_name: str) -> None:
    """Puts an order into its node's queue.

    Raises :class:`kombu.exceptions.OperationalError` when Redis cannot be reached. The order may have arrived even so:
    the start-fence makes a second one harmless.
    """
    message = app.amqp.create_task_message(
        task_id_of(order.lease_id, order.attempt),
        RENDER_TASK,
        kwargs={"text": signed.text, "signature": signed.signature},
        argsrepr=f"frame {order.frame} · {order.job_name} · {node_name}",
        kwargsrepr="{}",
        ignore_result=True,
    )
    # Straight into the node's list: nothing is declared, and nothing is kept of a thousand queues.
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish(
            message.body,
            exchange="",
            routing_key=queue_of(order.node_id),
            serializer="json",
            headers=message.headers,
            retry=True,
            retry_policy=PUBLISH_POLICY,
            **message.properties,
        )


def cancel_order(app: Celery, node_name: str, signed: SignedMessage) -> None:
    """Tells a node to end the attempt that the cancel inside names, at once.

    Nobody answers, so nothing is waited for. A node that misses it (Redis was away) still lists the lease in its
    presence record: send it again then. Raises :class:`kombu.exceptions.OperationalError` when Redis is not there.
    """
    app.control.broadcast(
        CANCEL_COMMAND,
        arguments={"text": signed.text, "signature": signed.signature},
        destination=[celery_name_of(node_name)],
        reply=False,
    )
