"""Orders and cancels are signed, and opened by the node they are for, in time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sheepfold.contract.codec import to_json
from sheepfold.contract.errors import (
    ExpiredMessage,
    ForgedMessage,
    MalformedContract,
    OtherFarm,
    OtherNode,
    RefusedMessage,
)
from sheepfold.contract.orders import MAX_ORDER_BYTES
from sheepfold.contract.signing import (
    CANCEL_GOOD_FOR_S,
    CLOCKS_DIFFER_S,
    MAX_CANCEL_BYTES,
    ORDER_GOOD_FOR_S,
    FarmKey,
    SignedMessage,
    Stamp,
    open_cancel,
    open_order,
    public_key_from,
    public_key_text,
    sign_cancel,
    sign_order,
)
from tests.support.wire.contract_messages import CANCEL, FARM, KEY, ORDER, STAMP

NOW = STAMP.sent_at

Opener = Callable[[SignedMessage, FarmKey, str, float], Any]
Signer = Callable[[Stamp, Ed25519PrivateKey], SignedMessage]


def _an_order(stamp: Stamp, key: Ed25519PrivateKey) -> SignedMessage:
    return sign_order(ORDER, stamp, key)


def _a_cancel(stamp: Stamp, key: Ed25519PrivateKey) -> SignedMessage:
    return sign_cancel(CANCEL, stamp, key)


BOTH = pytest.mark.parametrize(
    ("sign", "open_"), [(_an_order, open_order), (_a_cancel, open_cancel)], ids=["order", "cancel"]
)


def test_what_the_coordinator_signed_opens_on_the_node_it_is_for() -> None:
    assert open_order(_an_order(STAMP, KEY), FARM, "n1", NOW).order == ORDER
    assert open_cancel(_a_cancel(STAMP, KEY), FARM, "n1", NOW).cancel == CANCEL


@BOTH
def test_a_forged_altered_or_misdirected_message_does_not_open(sign: Signer, open_: Opener) -> None:
    signed = sign(STAMP, KEY)
    with pytest.raises(ForgedMessage):
        open_(sign(STAMP, Ed25519PrivateKey.generate()), FARM, "n1", NOW)
    for old, new in (("ab12", "ab13"), ('"attempt":1', '"attempt":2'), ("1000000.25", "1000001.25"), ("f1", "f2")):
        assert old in signed.text
        with pytest.raises(ForgedMessage):
            open_(dataclasses.replace(signed, text=signed.text.replace(old, new)), FARM, "n1", NOW)
    with pytest.raises(OtherNode, match="n1"):
        open_(signed, FARM, "n2", NOW)
    with pytest.raises(OtherFarm, match="f1"):
        open_(signed, dataclasses.replace(FARM, farm_id="f2"), "n1", NOW)


@BOTH
def test_the_signature_is_looked_at_before_anything_else(sign: Signer, open_: Opener) -> None:
    for text in ("", "{", "[" * 4000, "null"):
        with pytest.raises(ForgedMessage):
            open_(SignedMessage(text=text, signature=sign(STAMP, KEY).signature), FARM, "n1", NOW)


def test_an_order_is_no_cancel_and_a_cancel_no_order() -> None:
    with pytest.raises(MalformedContract):
        open_order(_a_cancel(STAMP, KEY), FARM, "n1", NOW)
    with pytest.raises(MalformedContract):
        open_cancel(_an_order(STAMP, KEY), FARM, "n1", NOW)


@pytest.mark.parametrize(
    ("sign", "open_", "good_for_s"),
    [(_an_order, open_order, ORDER_GOOD_FOR_S), (_a_cancel, open_cancel, CANCEL_GOOD_FOR_S)],
    ids=["order", "cancel"],
)
def test_a_message_is_good_for_a_while_and_not_before_its_time(sign: Signer, open_: Opener, good_for_s: float) -> None:
    signed = sign(STAMP, KEY)
    for age_s in (-CLOCKS_DIFFER_S, 0, good_for_s):
        open_(signed, FARM, "n1", NOW + age_s)
    with pytest.raises(ExpiredMessage, match=rf"{good_for_s + 1:.0f} s ago .* good for {good_for_s:.0f} s"):
        open_(signed, FARM, "n1", NOW + good_for_s + 1)
    with pytest.raises(ExpiredMessage, match="31 s from now"):
        open_(signed, FARM, "n1", NOW - CLOCKS_DIFFER_S - 1)


def test_a_message_that_is_too_long_is_not_even_verified() -> None:
    for open_, most_bytes in ((open_order, MAX_ORDER_BYTES), (open_cancel, MAX_CANCEL_BYTES)):
        with pytest.raises(MalformedContract, match="more than such a message has"):
            open_(SignedMessage(text=" " * (most_bytes + 1), signature="x"), FARM, "n1", NOW)


@given(signature=st.text(max_size=100))
def test_no_made_up_signature_opens_anything(signature: str) -> None:
    for open_ in (open_order, open_cancel):
        with pytest.raises(ForgedMessage):
            open_(SignedMessage(text=to_json(ORDER), signature=signature), FARM, "n1", NOW)


@given(sent_at=st.floats(allow_nan=True, allow_infinity=True))
def test_whatever_is_signed_no_time_is_unlimited(sent_at: float) -> None:
    """Given a bug in our own coordinator: not a number is no time either."""
    signed = sign_order(ORDER, Stamp(farm_id=FARM.farm_id, sent_at=sent_at), KEY)
    if not NOW - ORDER_GOOD_FOR_S <= sent_at <= NOW + CLOCKS_DIFFER_S:
        with pytest.raises((RefusedMessage, MalformedContract)):
            open_order(signed, FARM, "n1", NOW)


def test_the_order_key_travels_as_text() -> None:
    assert public_key_from(public_key_text(KEY)).public_bytes_raw() == KEY.public_key().public_bytes_raw()
    for text in ("", "abc", "Ü"):
        with pytest.raises(MalformedContract):
            public_key_from(text)
