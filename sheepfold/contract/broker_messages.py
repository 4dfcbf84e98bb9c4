"""What a node takes from Redis: orders from its queue, cancels and pings from the control channel. Pure.

Anybody who has a password of Redis can put anything there. A message is therefore never handed on: what it needs to say
is read from it, and a new one is made of that. Whatever else it says (compression, another serialiser, callbacks, a
time to wait for) has no effect.

Readers raise :class:`~sheepfold.contract.errors.MalformedContract`.
"""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from .codec import from_json, to_json
from .errors import MalformedContract
from .orders import CANCEL_COMMAND, MAX_ORDER_BYTES, RENDER_TASK
from .signing import SignedMessage

#: An order's text grows when it is quoted once more and written in base64, at worst to four times its bytes.
MAX_MESSAGE_BYTES = 4 * MAX_ORDER_BYTES + 64 * 1024
#: A cancel and a ping are a few hundred bytes, and the names of the nodes they are for.
MAX_CONTROL_BYTES = 64 * 1024

#: Celery's name of the command that asks whether a worker lives.
PING_COMMAND = "ping"
#: Where Celery expects replies to a ping, and nowhere else does a node write.
_REPLIES = "reply.celery.pidbox"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
#: Characters of a task's description that Flower shows.
_MAX_DESCRIPTION = 200


@dataclass(frozen=True, kw_only=True)
class _TaskHeaders:
    task: str
    id: str
    argsrepr: str = ""


@dataclass(frozen=True, kw_only=True)
class _Task:
    headers: _TaskHeaders
    #: base64 of JSON: arguments, named arguments, and what Celery would do afterwards.
    body: str


@dataclass(frozen=True, kw_only=True)
class _Ignored:
    """An object of which nothing is read."""


@dataclass(frozen=True, kw_only=True)
class _Control:
    #: base64 of a :class:`_Command`.
    body: str


@dataclass(frozen=True, kw_only=True)
class _ReplyTo:
    exchange: str
    routing_key: str


@dataclass(frozen=True, kw_only=True)
class _CommandName:
    method: str


@dataclass(frozen=True, kw_only=True)
class _Ping:
    destination: list[str] | None = None
    reply_to: _ReplyTo
    ticket: str


@dataclass(frozen=True, kw_only=True)
class _Cancel:
    destination: list[str] = field(default_factory=list[str])
    arguments: SignedMessage


def read_task_message(raw: bytes) -> dict[str, Any]:
    """An order as kombu's payload; no other task is let through."""
    task = from_json(_Task, _within(raw, MAX_MESSAGE_BYTES))
    if task.headers.task != RENDER_TASK:
        raise MalformedContract("it asks for another task than to render")
    _, signed, _ = from_json(tuple[tuple[()], SignedMessage, _Ignored], _from_base64(task.body))
    task_id = _shown(task.headers.id, 100)
    headers = {
        "lang": "py",
        "task": RENDER_TASK,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": _shown(task.headers.argsrepr, _MAX_DESCRIPTION),
        "kwargsrepr": "{}",
        "ignore_result": True,
    }
    return _payload([[], _arguments(signed), {}], headers, correlation_id=task_id)


def read_control_message(raw: bytes) -> dict[str, Any]:
    """A cancel or a ping as kombu's payload; no other command is let through."""
    text = _from_base64(from_json(_Control, _within(raw, MAX_CONTROL_BYTES)).body)
    method = from_json(_CommandName, text).method
    if method == PING_COMMAND:
        ping = from_json(_Ping, text)
        if ping.reply_to.exchange != _REPLIES or not all(
            map(_UUID.fullmatch, (ping.reply_to.routing_key, ping.ticket))
        ):
            raise MalformedContract("it asks for a reply to somewhere else")
        reply_to = {"exchange": _REPLIES, "routing_key": ping.reply_to.routing_key}
        said = {"arguments": {}, "destination": ping.destination, "reply_to": reply_to, "ticket": ping.ticket}
    elif method == CANCEL_COMMAND:
        cancel = from_json(_Cancel, text)
        said = {"arguments": _arguments(cancel.arguments), "destination": cancel.destination}
    else:
        raise MalformedContract(f"nodes do not know the command {_shown(method, 40)!r}")
    return _payload({"method": method, **said}, {})


def _arguments(signed: SignedMessage) -> dict[str, str]:
    return {"text": signed.text, "signature": signed.signature}


def _payload(body: Any, headers: dict[str, Any], **properties: Any) -> dict[str, Any]:
    delivery: dict[str, Any] = {
        "delivery_tag": str(uuid.uuid4()),
        "delivery_info": {},
        "delivery_mode": 2,
        "priority": 0,
    }
    return {
        "body": to_json(body),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": {**delivery, **properties},
    }


def _within(raw: bytes, most_bytes: int) -> bytes:
    if len(raw) > most_bytes:
        raise MalformedContract(f"{len(raw)} bytes are more than any message has")
    return raw


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise MalformedContract("its body is not base64") from None


def _shown(text: str, most: int) -> str:
    """For logs and pages: printable, and not long."""
    return "".join(character if character.isprintable() else "?" for character in text[:most])
