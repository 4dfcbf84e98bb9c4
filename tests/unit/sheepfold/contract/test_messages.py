"""What crosses between coordinator and worker."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sheepfold.contract.api_messages import FailureKind, FailureReport, JoinAnswer, JoinRequest, StartAnswer
from sheepfold.contract.codec import from_json, to_json
from sheepfold.contract.errors import ForgedOrder, MalformedContract
from sheepfold.contract.orders import (
    MAX_ORDER_BYTES,
    ArchiveRef,
    RenderOrder,
    SignedOrder,
    open_order,
    public_key_from,
    public_key_text,
    scene_key,
    sign_order,
)
from sheepfold.contract.presence import Compute, NodeHardware, Presence, SlotState, Stage

KEY = Ed25519PrivateKey.generate()
HARDWARE = NodeHardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="é", cpu_cores=4, ram=2**40, gpus=("A", "B")
)
ORDER = RenderOrder(
    lease_id="ab12", attempt=1, node_id="n1", job_id="7", job_name="demo · ü", frame="0340", revision="0",
    scene_path="a.blend",
    command_line=".e -b .c", script="import bpy\n", update_method="", use_gpu=True,
    scene_archives=(ArchiveRef(md5="0" * 32, size=1),), renderer_archive=ArchiveRef(md5="1" * 32, size=2),
    time_limit_s=None,
)  # fmt: skip
SLOT = SlotState(lease_id="ab", attempt=2, job_name="demo", frame="1", stage=Stage.WAITING, progress=0.5)
MESSAGES: list[Any] = [
    ORDER,
    HARDWARE,
    Presence(node_id="n", name="pc", hardware=HARDWARE, slots=2, compute=Compute.BOTH, busy=(SLOT,), archives=("0",)),
    JoinRequest(
        contract_version=1, node_id="n", wanted_name="p", hardware=HARDWARE, slots=1, compute=Compute.CPU, kept=("a.1",)
    ),
    JoinAnswer(name="pc", redis_url="redis://:pw@h/0", queue="farm.n", order_key="x"),
    StartAnswer(scene_password="ü"),
    FailureReport(kind=FailureKind.DISK_FULL, reason="full", log="😀", render_s=1.5, memory_kb=7),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_every_message_comes_back_as_it_went(message: Any) -> None:
    assert from_json(type(message), to_json(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_a_reader_ignores_what_it_does_not_know_and_misses_what_it_needs(message: Any) -> None:
    data = json.loads(to_json(message))
    assert from_json(type(message), json.dumps({**data, "later": [1]})) == message
    for one in dataclasses.fields(message):
        rest = json.dumps({name: value for name, value in data.items() if name != one.name})
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            with pytest.raises(MalformedContract, match=one.name):
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


def test_an_order_opens_with_the_right_key_on_the_right_node() -> None:
    assert open_order(sign_order(ORDER, KEY), KEY.public_key(), "n1") == ORDER


def test_a_forged_or_misdirected_order_does_not_open() -> None:
    signed = sign_order(ORDER, KEY)
    with pytest.raises(ForgedOrder):
        open_order(signed, Ed25519PrivateKey.generate().public_key(), "n1")
    with pytest.raises(ForgedOrder, match="not for this one"):
        open_order(signed, KEY.public_key(), "n2")
    with pytest.raises(ForgedOrder):
        open_order(dataclasses.replace(signed, order=signed.order.replace("0340", "0341")), KEY.public_key(), "n1")
    with pytest.raises(MalformedContract):
        open_order(SignedOrder(order=" " * (MAX_ORDER_BYTES + 1), signature="x"), KEY.public_key(), "n1")


@given(signature=st.text(max_size=100))
def test_no_made_up_signature_opens_an_order(signature: str) -> None:
    with pytest.raises(ForgedOrder):
        open_order(SignedOrder(order=to_json(ORDER), signature=signature), KEY.public_key(), "n1")


def test_the_order_key_travels_as_text() -> None:
    assert public_key_from(public_key_text(KEY)).public_bytes_raw() == KEY.public_key().public_bytes_raw()
    for text in ("", "abc", "Ü", "A" * 44):
        if text != "A" * 44:
            with pytest.raises(MalformedContract):
                public_key_from(text)


def test_a_redis_address_and_a_scenes_password_never_show() -> None:
    assert "pw" not in repr(MESSAGES[4])
    assert "opens it" not in repr(StartAnswer(scene_password="opens it"))


def test_no_order_has_a_place_for_a_password() -> None:
    assert not [one.name for one in dataclasses.fields(RenderOrder) if "password" in one.name]


def test_a_scene_of_one_archive_is_called_as_that_one_and_others_by_all_their_names_in_order() -> None:
    first, second = "a" * 32, "b" * 32
    assert scene_key([first]) == first
    assert scene_key([first, second]) == hashlib.md5((first + second).encode()).hexdigest()
    assert len({scene_key(md5s) for md5s in ([first], [second], [first, second], [second, first], [first] * 2)}) == 5
