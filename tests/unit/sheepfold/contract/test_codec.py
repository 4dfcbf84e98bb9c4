"""Messages between coordinator and worker become JSON and come back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.orders import (
    RenderOrder,
)
from tests.support.wire.contract_messages import MESSAGES, ORDER


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back_as_it_went(message: Any) -> None:
    assert from_json(type(message), to_json(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_reader_ignores_what_it_does_not_know_and_misses_what_it_needs(message: Any) -> None:
    data = json.loads(to_json(message))
    assert from_json(type(message), json.dumps({**data, "later": [1]})) == message
    for field in dataclasses.fields(message):
        rest = json.dumps({name: value for name, value in data.items() if name != field.name})
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            with pytest.raises(MalformedContract, match=field.name):
                from_json(type(message), rest)
        else:
            from_json(type(message), rest)


@pytest.mark.parametrize(
    ("name", "value"),
    [("attempt", "1"), ("attempt", True), ("attempt", 1.5), ("frame", 340), ("use_gpu", 1), ("scene_archives", "x"),
     ("scene_archives", None), ("scene_archives", [{"md5": "0"}]), ("time_limit_s", "5"), ("script", None)],
)  # fmt: skip
def test_a_field_of_the_wrong_type_is_refused(name: str, value: Any) -> None:
    data = json.loads(to_json(ORDER)) | {name: value}
    with pytest.raises(MalformedContract):
        from_json(RenderOrder, json.dumps(data))


@pytest.mark.parametrize("text", ["", "null", "[]", "7", "{", '"x"', "[" * 100_000, "NaN", b"\xff\xfe"])
def test_what_is_no_message_is_refused(text: str | bytes) -> None:
    with pytest.raises(MalformedContract):
        from_json(RenderOrder, text)
