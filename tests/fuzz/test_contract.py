"""Messages between coordinator and worker, and what lies in Redis: a message or :class:`MalformedContract`."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sheepfold.contract.broker_messages import PING_COMMAND, read_control_message, read_task_message
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import ContractError, MalformedContract
from sheepfold.contract.orders import CANCEL_COMMAND, RENDER_TASK
from sheepfold.contract.signing import SignedMessage, open_cancel, open_order, sign_order
from tests.support.fuzzing import damaged, fuzzed
from tests.support.wire.contract_messages import FARM, KEY, MESSAGES, ORDER, STAMP

KINDS = [*{type(message) for message in MESSAGES}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("9" * 400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
READERS: list[Callable[[bytes], dict[str, Any]]] = [read_task_message, read_control_message]
UUID = "0b6d5a32-9c3a-4d0c-8f6e-0a7f6f5b1f00"
SIGNED = {"text": to_json(ORDER), "signature": "x"}
HONEST = sign_order(ORDER, STAMP, KEY)
#: What an honest coordinator says, before it is damaged.
BODIES: list[Any] = [
    [[], SIGNED, {}],
    {"method": CANCEL_COMMAND, "arguments": SIGNED, "destination": ["pc"]},
    {"method": PING_COMMAND, "ticket": UUID, "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": UUID}},
]


def enveloped(body: bytes) -> bytes:
    """As Celery puts it into Redis."""
    headers = {"task": RENDER_TASK, "id": "ab12.1", "argsrepr": ""}
    return json.dumps({"headers": headers, "body": base64.b64encode(body).decode(), "properties": {}}).encode()


@st.composite
def replaced(draw: st.DrawFn, message: Any) -> bytes:
    """A message with the values of some fields replaced by any JSON."""
    fields = json.loads(to_json(message))
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=3)):
        fields[name] = draw(JSON)
    return json.dumps(fields).encode()


@fuzzed(share=0.4)
@given(
    kind=st.sampled_from(KINDS),
    text=st.sampled_from(MESSAGES).flatmap(lambda message: damaged(to_json(message).encode()) | replaced(message))
    | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_whatever_is_read_is_a_message_that_can_be_sent_on_or_malformed(kind: type[Any], text: bytes) -> None:
    with contextlib.suppress(MalformedContract):
        message = from_json(kind, text)
        assert from_json(kind, to_json(message)) == message


@fuzzed(share=0.4)
@given(
    reader=st.sampled_from(READERS),
    raw=st.sampled_from([json.dumps(body).encode() for body in BODIES]).flatmap(damaged).map(enveloped)
    | st.sampled_from([enveloped(json.dumps(body).encode()) for body in BODIES]).flatmap(damaged)
    | JSON.map(lambda value: enveloped(json.dumps(value).encode())),
)
def test_whatever_lies_in_redis_becomes_a_new_message_or_malformed(
    reader: Callable[[bytes], dict[str, Any]], raw: bytes
) -> None:
    with contextlib.suppress(MalformedContract):
        payload = reader(raw)
        assert set(payload) == {"body", "content-type", "content-encoding", "headers", "properties"}
        json.loads(payload["body"])


def test_what_is_damaged_was_honest() -> None:
    read_task_message(enveloped(json.dumps(BODIES[0]).encode()))
    for body in BODIES[1:]:
        read_control_message(enveloped(json.dumps(body).encode()))


@fuzzed(share=0.2)
@given(text=damaged(HONEST.text.encode()), signature=st.just(HONEST.signature) | st.text(max_size=100))
def test_nothing_opens_that_is_not_what_the_coordinator_signed(text: bytes, signature: str) -> None:
    said = SignedMessage(text=text.decode("utf-8", "surrogateescape"), signature=signature)
    assume(said != HONEST)
    for opens in (open_order, open_cancel):
        with pytest.raises(ContractError):
            opens(said, FARM, ORDER.node_id, STAMP.sent_at)
