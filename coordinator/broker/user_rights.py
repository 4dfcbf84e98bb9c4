"""What each user of the farm's Redis may do: rules for ``ACL SETUSER``. Pure.

::

    sheepfold-node-<node id>   its own queue (take), its own presence (write), the control channel (listen), events and
                               answers to pings (send)
    sheepfold-flower           events (listen), pings (send), lengths of queues (read)

Whatever is not named is refused: other nodes' queues and presence, sending on the control channel, scripts, KEYS,
CONFIG, and every command about the server. A node's names are matched whole: one that is the beginning of another opens
nothing of the other's. Kept as narrow as :mod:`render_tasks.broker.guarded_transport` makes possible.
"""

from __future__ import annotations

from sheepfold.contract.orders import celery_name_of, queue_of
from sheepfold.contract.presence import presence_key

NODE_USER_PREFIX = "sheepfold-node-"
FLOWER_USER = "sheepfold-flower"

#: What every connection of redis-py and kombu says, and what time it is; none of it reads or writes a key.
_CONNECT = "-@all +hello +auth +ping +time +client|setname +select +multi +exec +discard"
_LISTEN = "+subscribe +psubscribe +unsubscribe +punsubscribe"
#: kombu keeps here who waits for the answer to a ping.
_WAITING = "_kombu.binding.reply.celery.pidbox"


def node_user(node_id: str) -> str:
    """The name of a node's user at Redis."""
    return f"{NODE_USER_PREFIX}{node_id}"


def node_rules(node_id: str, name: str, database: int) -> tuple[str, ...]:
    """``name`` is what the node is called on this LAN: its control queue bears it."""
    queue, control = queue_of(node_id), f"{celery_name_of(name)}.celery.pidbox"
    return (
        *_CONNECT.split(),
        # `?` is a priority.
        f"(~{queue} ~{queue}:? +brpop +llen)",
        f"(~{control} ~{control}:? +llen)",
        f"(~{presence_key(node_id)} +set)",
        f"({_control(database)} {_LISTEN})",
        f"({_events(database)} +publish)",
        f"(%R~{_WAITING} +smembers)",
        "(~*.reply.celery.pidbox +lpush)",
    )


def flower_rules(database: int) -> tuple[str, ...]:
    """It reads events, asks nodes whether they live, and takes their answers."""
    return (
        *_CONNECT.split(),
        f"({_events(database)} {_LISTEN})",
        f"({_control(database)} +publish)",
        "(%R~farm.* %R~celery* +llen)",
        "(~*.reply.celery.pidbox* ~celeryev.* +brpop +llen +del +exists +pexpire)",
        "(~_kombu.* +eval +evalsha +sadd +srem +smembers +exists +zadd +zrem +zrangebyscore +del)",
        "+script|load",
        "+script|exists",
    )


def _control(database: int) -> str:
    """kombu's channel of Celery's control commands. Who listens by a pattern has to be granted that very pattern."""
    return f"&/{database}.celery.pidbox"


def _events(database: int) -> str:
    return f"&/{database}.celeryev/*"
