"""Orders: one attempt at one frame for one node, and the coordinator's signature over it. Pure.

An order travels through Redis in ``farm.<node id>``, a list: the Celery queue of one node (Celery's own keys aside).

A scene is an ordered tuple of archives: one zip, or the chunks of one. Each archive is fetched, kept and shared by
its own MD5; the whole scene is known by its :func:`scene_key`. A scene's password is in
:class:`~sheepfold.contract.api_messages.StartAnswer` and in no other message.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .codec import from_json, to_json
from .errors import ForgedOrder, MalformedContract

#: Celery's name of the one task.
RENDER_TASK = "render"

#: Celery's name of the control command that ends a render; arguments ``lease_id`` and ``attempt``.
CANCEL_COMMAND = "cancel_lease"

#: What an archive is called everywhere; nothing else becomes a path.
MD5_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)

#: Jobs below are a service's own test frames: they measure one machine.
FIRST_ORDINARY_JOB = 20
#: An order is a few kB; the script is the longest part of it.
MAX_ORDER_BYTES = 4 * 1024 * 1024


def queue_of(node_id: str) -> str:
    """The Celery queue of one node."""
    return f"farm.{node_id}"


def celery_name_of(node_name: str) -> str:
    """The Celery worker name of a node; Flower shows it."""
    return f"worker@{node_name}"


@dataclass(frozen=True, kw_only=True)
class ArchiveRef:
    """An archive the coordinator holds, by content."""

    #: Lower-case hex; it becomes a path, so nothing else is let through.
    md5: str
    #: Bytes.
    size: int


def scene_key(md5s: Sequence[str]) -> str:
    """What a scene of these archives, in this order, is called: the MD5 of the only one, or of their joined MD5s."""
    if len(md5s) == 1:
        return md5s[0]
    return hashlib.md5("".join(md5s).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RenderOrder:
    """One attempt at one frame, for one node."""

    lease_id: str
    attempt: int
    node_id: str
    job_id: str
    #: A person's name for the job.
    job_name: str
    #: Exactly as the server wrote it (``"0340"``).
    frame: str
    #: The job's revision, as the server wrote it.
    revision: str
    #: Path of the .blend inside the scene archive, as the server wrote it.
    scene_path: str
    command_line: str
    script: str
    #: ``remainingtime``, ``blenderinternal``, ``by_tile`` or empty.
    update_method: str
    use_gpu: bool
    #: In order; their bytes, joined, are the scene's zip.
    scene_archives: tuple[ArchiveRef, ...]
    renderer_archive: ArchiveRef
    #: Seconds after which a render is killed and reported; ``None``: no limit.
    time_limit_s: int | None = None
    #: The node made this frame before and is asked whether it makes it so again: with a renderer started for it alone.
    fresh_renderer: bool = False
    #: The scene's zip wants a password, which comes with the :class:`StartAnswer`.
    scene_locked: bool = False


@dataclass(frozen=True, kw_only=True)
class SignedOrder:
    """An order as it travels: the exact JSON text and the coordinator's signature over it."""

    #: A :class:`RenderOrder` as JSON text.
    order: str
    #: Ed25519 over the UTF-8 of ``order``, base64.
    signature: str


def sign_order(order: RenderOrder, key: Ed25519PrivateKey) -> SignedOrder:
    """The order as it travels, with a signature over the exact bytes of its text."""
    text = to_json(order)
    return SignedOrder(order=text, signature=base64.b64encode(key.sign(text.encode())).decode("ascii"))


def open_order(signed: SignedOrder, key: Ed25519PublicKey, node_id: str) -> RenderOrder:
    """The order inside, once its signature and its addressee are right.

    Raises :class:`ForgedOrder` or :class:`MalformedContract`. Replays are not caught here: the start-fence does that.
    """
    text = signed.order.encode()
    if len(text) > MAX_ORDER_BYTES:
        raise MalformedContract(f"an order of {len(text)} bytes is larger than any order")
    try:
        key.verify(base64.b64decode(signed.signature, validate=True), text)
    except (InvalidSignature, ValueError):
        raise ForgedOrder("the order is not signed by this farm's coordinator") from None
    order = from_json(RenderOrder, text)
    if order.node_id != node_id:
        raise ForgedOrder(f"the order was made for node {order.node_id}, not for this one")
    return order


def public_key_text(key: Ed25519PrivateKey) -> str:
    """The public half as it stands in :attr:`JoinAnswer.order_key`."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def public_key_from(text: str) -> Ed25519PublicKey:
    """The inverse of :func:`public_key_text`; raises :class:`MalformedContract`."""
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError:
        raise MalformedContract("the order key is not an Ed25519 public key") from None


def is_test_job(job_id: str) -> bool:
    """Whether a job measures this PC instead of making somebody's film."""
    return job_id.isascii() and job_id.isdigit() and int(job_id[:10]) < FIRST_ORDINARY_JOB
