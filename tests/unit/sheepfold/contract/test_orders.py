"""Orders are signed, and opened by the node they are for."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sheepfold.contract.codec import to_json
from sheepfold.contract.errors import ForgedOrder, MalformedContract
from sheepfold.contract.orders import (
    MAX_ORDER_BYTES,
    RenderOrder,
    SignedOrder,
    open_order,
    public_key_from,
    public_key_text,
    scene_key,
    sign_order,
)
from tests.support.wire.contract_messages import KEY, ORDER


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


def test_no_order_has_a_place_for_a_password() -> None:
    assert not [field.name for field in dataclasses.fields(RenderOrder) if "password" in field.name]


def test_a_scene_of_one_archive_is_called_as_that_one_and_others_by_all_their_names_in_order() -> None:
    first, second = "a" * 32, "b" * 32
    assert scene_key([first]) == first
    assert scene_key([first, second]) == hashlib.md5((first + second).encode()).hexdigest()
    assert len({scene_key(md5s) for md5s in ([first], [second], [first, second], [second, first], [first] * 2)}) == 5
