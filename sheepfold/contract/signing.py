"""The envelope in which orders and cancels travel, and the coordinator's signature over it. Pure.

::

    {"stamp": {"farm_id": …, "sent_at": …}, "order":  RenderOrder}     1
    {"stamp": {"farm_id": …, "sent_at": …}, "cancel": Cancel}          2

A node opens it in this order: signature, farm, addressee, age. Before a signature is right nothing of the text is read.

The time is Redis': clocks of PCs differ. **An order is good for** :data:`ORDER_GOOD_FOR_S`. It waits in its queue for a
free thread of its node, which takes as long as the frames before it: seconds with a look-ahead of one, minutes with the
longest that can be set. One that waited longer is taken back by the coordinator and refused by the node, by the same
constant. **A cancel** is heard at once or never; the coordinator sends a new one as long as it is needed.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .codec import from_json, to_json
from .errors import ExpiredMessage, ForgedMessage, MalformedContract, OtherFarm, OtherNode
from .orders import MAX_ORDER_BYTES, RenderOrder

#: Seconds from the stamp to the moment the order is opened.
ORDER_GOOD_FOR_S = 900.0
#: The same of a cancel: a worker hears it within a second or two, unless its PC is overloaded.
CANCEL_GOOD_FOR_S = 60.0
#: Both sides ask Redis only now and then, so a stamp may lie in the future by as much.
CLOCKS_DIFFER_S = 30.0
#: A cancel names a farm, a node and a lease.
MAX_CANCEL_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """Who sent a message, and when."""

    #: Of the farm whose nodes it is for; the coordinator's ledger keeps it.
    farm_id: str
    #: Unix seconds by Redis' clock.
    sent_at: float


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """One node is to end one attempt at once."""

    node_id: str
    lease_id: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class SignedMessage:
    """An envelope as it travels: the exact JSON text and the coordinator's signature over it."""

    #: An :class:`OrderEnvelope` or a :class:`CancelEnvelope`.
    text: str
    #: Ed25519 over the UTF-8 of ``text``, base64.
    signature: str


@dataclass(frozen=True, kw_only=True)
class OrderEnvelope:
    """What is signed of an order: itself, the farm it is from, and when it was sent."""

    stamp: Stamp
    order: RenderOrder


@dataclass(frozen=True, kw_only=True)
class CancelEnvelope:
    """What is signed of a cancel: itself, the farm it is from, and when it was sent."""

    stamp: Stamp
    cancel: Cancel


@dataclass(frozen=True, kw_only=True)
class FarmKey:
    """The farm a node belongs to, and the key by which it knows the farm's coordinator."""

    farm_id: str
    order_key: Ed25519PublicKey

    @property
    def label(self) -> str:
        """For a person: the farm and its key's fingerprint, which nobody can make another key for."""
        fingerprint = hashlib.sha256(self.order_key.public_bytes_raw()).hexdigest()[:32]
        return f"{self.farm_id[:64]} (key {fingerprint})"


def sign_order(order: RenderOrder, stamp: Stamp, key: Ed25519PrivateKey) -> SignedMessage:
    """The order as it travels through Redis, signed with the coordinator's key."""
    return _sign(to_json(OrderEnvelope(stamp=stamp, order=order)), key)


def sign_cancel(cancel: Cancel, stamp: Stamp, key: Ed25519PrivateKey) -> SignedMessage:
    """The cancel as it travels on the control channel, signed with the coordinator's key."""
    return _sign(to_json(CancelEnvelope(stamp=stamp, cancel=cancel)), key)


def open_order(signed: SignedMessage, farm: FarmKey, node_id: str, now: float) -> OrderEnvelope:
    """The order inside, for this node; ``now`` in Unix seconds by Redis' clock.

    Raises :class:`MalformedContract`, :class:`ForgedMessage`, :class:`OtherFarm`, :class:`OtherNode` or
    :class:`ExpiredMessage`. Replays are the node's to notice (:mod:`render_tasks.orders.opening`).
    """
    envelope = from_json(OrderEnvelope, _verified(signed, farm, MAX_ORDER_BYTES))
    _check_addressee(envelope.stamp, envelope.order.node_id, farm, node_id)
    _check_age(envelope.stamp, now, ORDER_GOOD_FOR_S)
    return envelope


def open_cancel(signed: SignedMessage, farm: FarmKey, node_id: str, now: float) -> CancelEnvelope:
    """The cancel inside, for this node; ``now`` and what is raised as for :func:`open_order`."""
    envelope = from_json(CancelEnvelope, _verified(signed, farm, MAX_CANCEL_BYTES))
    _check_addressee(envelope.stamp, envelope.cancel.node_id, farm, node_id)
    _check_age(envelope.stamp, now, CANCEL_GOOD_FOR_S)
    return envelope


def public_key_text(key: Ed25519PrivateKey) -> str:
    """The public half as it stands in :attr:`JoinAnswer.order_key`."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def public_key_from(text: str) -> Ed25519PublicKey:
    """The inverse of :func:`public_key_text`; raises :class:`MalformedContract`."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError:
        raise MalformedContract("the order key is not an Ed25519 public key") from None


def _sign(text: str, key: Ed25519PrivateKey) -> SignedMessage:
    return SignedMessage(text=text, signature=base64.b64encode(key.sign(text.encode())).decode("ascii"))


def _verified(signed: SignedMessage, farm: FarmKey, most_bytes: int) -> bytes:
    text = signed.text.encode("utf-8", "surrogatepass")
    if len(text) > most_bytes:
        raise MalformedContract(f"{len(text)} bytes are more than such a message has")
    try:
        farm.order_key.verify(base64.b64decode(signed.signature, validate=True), text)
    except (InvalidSignature, ValueError):
        raise ForgedMessage("it is not signed by this farm's coordinator") from None
    return text


def _check_addressee(stamp: Stamp, addressee: str, farm: FarmKey, node_id: str) -> None:
    if stamp.farm_id != farm.farm_id:
        raise OtherFarm(stamp.farm_id)
    if addressee != node_id:
        raise OtherNode(addressee)


def _check_age(stamp: Stamp, now: float, good_for_s: float) -> None:
    age_s = now - stamp.sent_at
    if not -CLOCKS_DIFFER_S <= age_s <= good_for_s:
        raise ExpiredMessage(age_s, good_for_s)
