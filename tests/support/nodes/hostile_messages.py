"""What somebody with a password of Redis may put into a node's queue and on the control channel."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

#: A queue's message as Celery writes one, before somebody altered it.
_TASK: dict[str, Any] = {
    "body": "",
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"task": "render", "id": "ab.1", "argsrepr": "frame 1"},
    "properties": {
        "delivery_tag": "t",
        "delivery_info": {"exchange": "", "routing_key": "q"},
        "body_encoding": "base64",
    },
}
#: Bytes of a message that is too long for any order, and for a worker that must not swell.
HUGE_BYTES = 200 * 1024 * 1024


def task(body: bytes, **changes: Any) -> bytes:
    """A message around this body."""
    return json.dumps({**_TASK, "body": base64.b64encode(body).decode(), **changes}).encode()


def hostile_tasks() -> dict[str, bytes]:
    """What it is → the message."""
    order = json.dumps([[], {"text": "{}", "signature": "x"}, {}]).encode()
    headers = _TASK["headers"]
    return {
        "not JSON": b"hello",
        "empty": b"",
        "a number": b"5",
        "a list": b"[]",
        "an empty object": b"{}",
        "null": b"null",
        "deep": b"[" * 100_000 + b"]" * 100_000,
        "a deep unknown field": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "not UTF-8": b'{"body": "\xff\xfe"}',
        "no properties": json.dumps({key: value for key, value in _TASK.items() if key != "properties"}).encode(),
        "no body": json.dumps({key: value for key, value in _TASK.items() if key != "body"}).encode(),
        "no headers": json.dumps({key: value for key, value in _TASK.items() if key != "headers"}).encode(),
        "headers of the wrong type": task(order, headers=7),
        "a body that is not base64": json.dumps({**_TASK, "body": "~"}).encode(),
        "a body of another type": task(b"{}"),
        "a deep body": task(b"[" * 100_000 + b"]" * 100_000),
        "pickle": task(b"cos\nsystem\n(S'true'\ntR.", **{"content-type": "application/x-python-serialize"}),
        "a bomb": task(zlib.compress(bytes(512 * 1024 * 1024), 9), headers={**headers, "compression": "zlib"}),
        "another task": task(order, headers={**headers, "task": "celery.backend_cleanup"}),
        "arguments": task(json.dumps([[1], {"text": "{}", "signature": "x"}, {}]).encode()),
        "huge": b"[" + b"7," * (HUGE_BYTES // 2) + b"7]",
        # These are read, and refused as orders.
        "an order that is none": task(order),
        "an order with a wrong id": task(order, headers={**headers, "id": "\n\x1b[2J" * 1000}),
        "an order that waits": task(order, headers={**headers, "eta": "2999-01-01T00:00:00", "expires": "x"}),
        "an order with a sequel": task(
            json.dumps([[], {"text": "{}", "signature": "x"}, {"callbacks": [{"task": "x"}], "chain": [1]}]).encode()
        ),
        "a serialiser nobody has": task(order, **{"content-type": "x/y", "content-encoding": "rot13"}),
        "an encoding that is code": task(order, properties={"delivery_tag": "t", "body_encoding": "os.system"}),
    }


def control(method: str, **more: Any) -> bytes:
    """A message on the control channel, for every worker."""
    body = {"method": method, "arguments": {}, "destination": None, "pattern": None, "matcher": None, **more}
    headers = {"clock": 1, "expires": 0}
    return task(json.dumps(body).encode(), headers=headers)


def hostile_commands(queue: str) -> dict[str, bytes]:
    """What it is → the message; ``queue`` is the node's."""
    somewhere = {"exchange": "", "routing_key": queue}
    commands = {
        "shutdown": {},
        "cancel_consumer": {"queue": queue},
        "add_consumer": {"queue": "another"},
        "rate_limit": {"task_name": "render", "rate_limit": "1/h"},
        "time_limit": {"task_name": "render", "hard": 1},
        "revoke": {"task_id": "ab.1", "terminate": True},
        "pool_restart": {"modules": ["os"]},
        "pool_shrink": {"n": 100},
        "autoscale": {"max": 0, "min": 0},
        "disable_events": {},
        "active": {},
        "stats": {},
        "conf": {},
        "memdump": {},
        "query_task": {"ids": ["ab.1"]},
        "election": {"id": 1, "topic": "x", "action": "y"},
        "unknown": {},
    }
    messages = {name: control(name, arguments=arguments) for name, arguments in commands.items()}
    return messages | {
        "not JSON": b"hello",
        "a number": b"5",
        "a list": b"[]",
        "an empty object": b"{}",
        "deep": b"[" * 30_000 + b"]" * 30_000,
        "not UTF-8": b"\xff\xfe",
        "a command that is no object": task(b"5"),
        "arguments of another type": control("cancel_lease", arguments=[1]),
        "a ping to the node's queue": control("ping", reply_to=somewhere, ticket="x"),
        "huge": b"[" + b"7," * 2_000_000 + b"7]",
    }
