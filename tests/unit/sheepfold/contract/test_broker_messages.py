"""What a node reads of a message in Redis: an order, a cancel or a ping, made anew, and nothing else."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepfold.contract.broker_messages import (
    MAX_CONTROL_BYTES,
    MAX_MESSAGE_BYTES,
    read_control_message,
    read_task_message,
)
from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.orders import CANCEL_COMMAND, MAX_ORDER_BYTES, RENDER_TASK
from tests.support.nodes.hostile_messages import control, hostile_commands, task

SIGNED = {"text": '{"order": 1}', "signature": "c2ln"}


def order(arguments: Any = (), named: Any = SIGNED, after: Any = None, **changes: Any) -> bytes:
    """A message of the queue."""
    return task(json.dumps([list(arguments), named, after or {}]).encode(), **changes)


def ping(**changes: Any) -> bytes:
    said = {"reply_to": {"exchange": "reply.celery.pidbox", "routing_key": str(uuid.UUID(int=1))}}
    return control("ping", **said | {"ticket": str(uuid.UUID(int=2))} | changes)


def test_an_order_is_read_and_made_anew() -> None:
    payload = read_task_message(order())
    assert json.loads(payload["body"]) == [[], SIGNED, {}]
    headers = payload["headers"]
    assert (headers["task"], headers["id"], headers["argsrepr"]) == (RENDER_TASK, "ab.1", "frame 1")
    assert payload["content-type"] == "application/json"


def test_nothing_else_that_it_says_has_any_effect() -> None:
    harmless, hostile = (
        read_task_message(order()),
        read_task_message(
            order(
                named=SIGNED | {"more": 1},
                after={"callbacks": [{"task": "x"}], "chord": 1, "chain": [1], "errbacks": [1]},
                headers={
                    "task": RENDER_TASK, "id": "ab.1", "argsrepr": "frame 1", "eta": "2999-01-01T00:00:00",
                    "expires": "x", "timelimit": [1, 1], "retries": 9, "compression": "zlib", "group": "g",
                    "ignore_result": False, "lang": "c",
                },
                properties={"body_encoding": "os.system", "reply_to": "somewhere", "priority": 9},
                **{"content-type": "application/x-python-serialize", "content-encoding": "rot13"},
            )
        ),
    )  # fmt: skip
    for payload in (harmless, hostile):
        payload["properties"].pop("delivery_tag")
    assert hostile == harmless


def test_what_pages_show_of_an_order_is_printable_and_short() -> None:
    headers = {"task": RENDER_TASK, "id": "\x1b[2J\n" * 1000, "argsrepr": "\x00é\r" * 1000}
    shown = read_task_message(order(headers=headers))["headers"]
    assert shown["id"].isprintable()
    assert len(shown["id"]) == 100
    assert shown["argsrepr"].startswith("?é?")
    assert len(shown["argsrepr"]) == 200


@pytest.mark.parametrize(
    "raw",
    [
        order(arguments=[1]),
        order(named={"text": "{}"}),
        order(named={"text": 1, "signature": "x"}),
        order(named=[SIGNED]),
        order(headers={"task": "celery.backend_cleanup", "id": "ab.1"}),
        order(headers={"task": RENDER_TASK, "id": 7}),
        order(headers={}),
        task(b"[]"),
        task(b"\xff"),
        b"{}",
        b"",
        b"null",
        b"[" * 100_000,
    ],
)
def test_what_is_no_order_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedContract):
        read_task_message(raw)


def test_the_largest_order_is_read_and_a_larger_message_is_not() -> None:
    # Each of these characters is written as two and then as four bytes.
    largest = order(named={"text": '"' * MAX_ORDER_BYTES, "signature": "x" * 100})
    assert len(json.loads(read_task_message(largest)["body"])[1]["text"]) == MAX_ORDER_BYTES
    with pytest.raises(MalformedContract, match="more than any message has"):
        read_task_message(b" " * (MAX_MESSAGE_BYTES + 1))


def test_a_cancel_is_read_with_its_signature_and_nothing_else() -> None:
    raw = control(CANCEL_COMMAND, arguments=SIGNED | {"terminate": True}, destination=["worker@pc"], reply_to="x")
    said = json.loads(read_control_message(raw)["body"])
    assert said == {"method": CANCEL_COMMAND, "arguments": SIGNED, "destination": ["worker@pc"]}


@pytest.mark.parametrize(
    "arguments", [{}, [1], {"text": "x"}, {"signature": "x"}, {"lease_id": "ab", "attempt": 1}, {**SIGNED, "text": 5}]
)
def test_a_cancel_without_a_signed_text_is_refused(arguments: Any) -> None:
    with pytest.raises(MalformedContract):
        read_control_message(control(CANCEL_COMMAND, arguments=arguments, destination=["worker@pc"]))


def test_a_cancel_for_everybody_is_for_nobody() -> None:
    with pytest.raises(MalformedContract):
        read_control_message(control(CANCEL_COMMAND, arguments=SIGNED))  # destination: null
    said = json.loads(read_control_message(control(CANCEL_COMMAND, arguments=SIGNED, destination=[]))["body"])
    assert said["destination"] == []


def test_a_ping_is_answered_where_celery_expects_it() -> None:
    said = json.loads(read_control_message(ping(destination=None))["body"])
    assert (said["method"], said["arguments"], said["ticket"]) == ("ping", {}, str(uuid.UUID(int=2)))


@pytest.mark.parametrize(
    "change",
    [
        {"reply_to": {"exchange": "", "routing_key": "farm.n1"}},
        {"reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "farm.n1"}},
        {"reply_to": {"exchange": "x", "routing_key": str(uuid.UUID(int=1))}},
        {"reply_to": None},
        {"ticket": "x" * 36},
    ],
)
def test_a_ping_that_would_be_answered_elsewhere_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedContract):
        read_control_message(ping(**change))


@pytest.mark.parametrize("what", hostile_commands("farm.n1"))
def test_no_other_command_is_read(what: str) -> None:
    with pytest.raises(MalformedContract):
        read_control_message(hostile_commands("farm.n1")[what])


def test_a_command_that_is_too_long_is_not_read() -> None:
    with pytest.raises(MalformedContract, match="more than any message has"):
        read_control_message(control(CANCEL_COMMAND, arguments=SIGNED | {"more": "x" * MAX_CONTROL_BYTES}))


@given(raw=st.binary(max_size=200) | st.binary(max_size=200).map(lambda body: task(base64.b64encode(body))))
def test_whatever_it_is_a_reader_answers_or_refuses(raw: bytes) -> None:
    for read in (read_task_message, read_control_message):
        try:
            read(raw)
        except MalformedContract:
            continue
