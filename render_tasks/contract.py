"""What coordinator and worker agree on: orders, their signature, the presence record, the depot's messages.

Pure: no I/O and no clock. Everything here crosses a process boundary as JSON; :func:`to_json` and :func:`from_json` are
the only way over. A reader ignores fields it does not know and refuses a message that lacks one it needs.

Redis, as far as the two sides share it (Celery's own keys aside)::

    farm.<node id>             list   Celery queue of one node
    sheepfold:presence         hash   node id → Presence as JSON
    sheepfold:seen             zset   node id → Redis TIME (seconds) of its last record, 0 after it said goodbye

The depot (HTTP on the LAN, ``Authorization: Bearer <farm token>`` on every call)::

    POST /api/join                                     JoinRequest → JoinAnswer
    GET  /api/archives/{md5}?node=&url=                ArchivePlan, 404: not here; url: where the asking node serves
    GET  /api/archives/{md5}/sources?node=&url=        ArchiveSources: the same question without the sums
    POST /api/leases/{id}/start?node=&attempt=&claim=  StartAnswer, or 409: drop this order; claim: a random word
    PUT  /api/leases/{id}/frame?node=&attempt=&...     FrameReport as query, picture as body: 200, 409 drop, 422 bad
    POST /api/leases/{id}/failure?node=&attempt=       FailureReport: 200, or 409 drop

An archive server (HTTP on the LAN, the coordinator's and one on each node; ``Authorization: Bearer`` and the archive's
pass, see :func:`archive_pass`)::

    GET /archives/{md5}          the archive, with Range, as far as it is here; 416: not these bytes, 503: too many ask
    GET /archives/{md5}/pieces   which pieces are here, as in :mod:`render_tasks.pieces`; every answer's
                                 ``X-Sheepfold-Pieces`` says the same

A scene is an ordered tuple of archives: one zip, or the parts of one. Each archive is fetched, kept and handed on by
its own MD5; the whole scene is known by its :func:`scene_key`. A scene's password is in :class:`StartAnswer` and in no
other message.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: Raised when a message changes its meaning; a worker with another number is told to update.
CONTRACT_VERSION = 3

#: Celery's name of the one task.
RENDER_TASK = "render"
#: Celery's name of the control command that ends a render; arguments ``lease_id`` and ``attempt``.
CANCEL_COMMAND = "cancel_lease"

PRESENCE_HASH = "sheepfold:presence"
PRESENCE_SEEN = "sheepfold:seen"
#: The time of a node that left on purpose: silence has to be waited for, a goodbye has not.
PRESENCE_LEFT = 0
#: A record is written this often.
PRESENCE_EVERY_S = 5
#: Three missed records: the node is gone.
NODE_SILENT_AFTER_S = 15

#: An archive server says here which pieces it has.
PIECES_HEADER = "X-Sheepfold-Pieces"
#: What an archive is called everywhere; nothing else becomes a path.
MD5_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)
#: Where a node serves archives: an address, and nothing that could lead elsewhere.
ARCHIVE_URL = re.compile(r"http://(?:[0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}", re.ASCII)

#: An order is a few kB; the script is the longest part of it.
MAX_ORDER_BYTES = 4 * 1024 * 1024

T = TypeVar("T")


class ContractError(Exception):
    """A message between coordinator and worker cannot be used."""


class MalformedContract(ContractError):
    """The text is not a message of the kind asked for."""


class ForgedOrder(ContractError):
    """The order's signature is not the coordinator's, or it was made for another node."""


def queue_of(node_id: str) -> str:
    """The Celery queue of one node."""
    return f"farm.{node_id}"


def celery_name_of(node_name: str) -> str:
    """The Celery worker name of a node; Flower shows it."""
    return f"worker@{node_name}"


@dataclass(frozen=True, kw_only=True)
class ArchiveRef:
    """An archive the depot holds, by content."""

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
class ArchiveSources:
    """Where an archive can be had from."""

    #: Root URLs of nodes that have it or parts of it, a few of them by chance.
    nodes: tuple[str, ...] = ()
    #: Root URL of the coordinator's archive server, the last source of all.
    coordinator: str


@dataclass(frozen=True, kw_only=True)
class ArchivePlan:
    """How an archive travels: in pieces that can be told right from wrong one by one."""

    md5: str
    #: Bytes.
    size: int
    #: Bytes of every piece but the last.
    piece_bytes: int
    #: Of each piece, as :func:`render_tasks.pieces.sum_of` makes it.
    sums: tuple[str, ...]
    sources: ArchiveSources


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
class StartAnswer:
    """The start-fence lets this attempt pass, and says what no queue may hold."""

    #: Opens the scene's zip; empty: it is not locked, or the coordinator has no password for it.
    scene_password: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class SignedOrder:
    """An order as it travels: the exact JSON text and the coordinator's signature over it."""

    #: A :class:`RenderOrder` as JSON text.
    order: str
    #: Ed25519 over the UTF-8 of ``order``, base64.
    signature: str


class Compute(StrEnum):
    """What a node lets the farm use."""

    CPU = "cpu"
    GPU = "gpu"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class NodeHardware:
    """A PC as a session describes it, and what placement needs."""

    #: ``windows``, ``mac`` or ``linux``.
    os: str
    #: ``32bit`` or ``64bit``.
    bits: str
    cpu_family: str
    cpu_model: str
    cpu_model_name: str
    #: Threads available.
    cpu_cores: int
    #: Bytes.
    ram: int
    #: Names of usable GPUs, empty where there are none.
    gpus: tuple[str, ...] = ()
    #: Name and release of the operating system, for a person; later generations of servers are told.
    os_version: str = ""


class Stage(StrEnum):
    """What a slot is doing with its lease."""

    FETCHING = "fetching"
    #: Archives are there, and every slot is rendering.
    WAITING = "waiting"
    RENDERING = "rendering"
    DELIVERING = "delivering"


@dataclass(frozen=True, kw_only=True)
class SlotState:
    """One lease a node holds right now."""

    lease_id: str
    attempt: int
    job_name: str
    frame: str
    stage: Stage
    #: 0 to 1, ``None`` while Blender has said nothing.
    progress: float | None = None
    #: Seconds Blender expects to need.
    remaining_s: float | None = None
    #: Peak memory so far, kB.
    memory_kb: int | None = None


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A node's record in Redis, written every :data:`PRESENCE_EVERY_S`."""

    node_id: str
    #: Unique on this LAN; a person reads it.
    name: str
    hardware: NodeHardware
    #: Frames rendered side by side.
    slots: int
    compute: Compute
    #: Leases in hand, at most ``slots`` of them rendering.
    busy: tuple[SlotState, ...] = ()
    #: What is unpacked in this node's cache: renderers by MD5, scenes by :func:`scene_key`.
    archives: tuple[str, ...] = ()
    #: Root URL of this node's archive server; empty: it has none.
    archive_url: str = ""
    #: MD5 sums of archives it hands to other nodes, parts of scenes among them.
    shared: tuple[str, ...] = ()
    #: Keys of scenes that an open Blender holds right now.
    warm: tuple[str, ...] = ()
    #: What its operator calls it apt for; a job may ask for some of these words.
    tags: tuple[str, ...] = ()
    #: False while the node takes nothing more (it is about to stop).
    accepting: bool = True
    #: Why the node can take nothing at all right now, and what to do about it; empty: it can.
    trouble: str = ""
    #: Version of the Blender that is installed there (``3.4.1``); empty: none, or none that answers.
    blender: str = ""
    #: Why there is no such Blender, and what to do about it.
    no_blender: str = ""
    #: As in :attr:`JoinRequest.installation`.
    installation: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class JoinRequest:
    """A worker asks to be one of the farm's nodes."""

    contract_version: int
    #: Stable UUID kept in the work folder.
    node_id: str
    #: The name the PC would like to have.
    wanted_name: str
    hardware: NodeHardware
    slots: int
    compute: Compute
    version: str = ""
    #: ``<lease id>.<attempt>`` of finished frames that an earlier process kept and this one is about to deliver.
    kept: tuple[str, ...] = ()
    #: The first join of a worker process: it holds nothing but what it kept.
    fresh: bool = False
    #: Names the PC and the work folder: a worker that was started anew has the same one, a copy of the folder another.
    installation: str = ""
    #: As in :attr:`Presence.blender`.
    blender: str = ""


@dataclass(frozen=True, kw_only=True)
class JoinAnswer:
    """What a node needs to take orders."""

    #: ``wanted_name``, made unique.
    name: str
    #: Holds a password; never logged.
    redis_url: str = field(repr=False)
    queue: str
    #: Ed25519 public key, raw bytes in base64: orders are signed with it.
    order_key: str
    #: Where to find the depot from now on; empty: where the join was answered.
    depot_url: str = ""
    #: Who the node is from now on, where the id it came with is another living node's; empty: who it said it is.
    node_id: str = ""


@dataclass(frozen=True, kw_only=True)
class FrameReport:
    """What goes with a delivered picture, as query parameters of the PUT."""

    #: File name of the picture; only its suffix is used.
    name: str
    #: Of the picture, lower-case hex: a cut-off body is refused.
    md5: str
    #: Wall seconds from renderer start to exit.
    render_s: float
    #: Peak memory, kB.
    memory_kb: int
    #: Threads the renderer could use.
    cores: int


class FailureKind(StrEnum):
    """Why an attempt gave no picture."""

    #: The renderer died of a signal or left a crash file.
    RENDERER_CRASHED = "renderer crashed"
    #: Exit code 127 within ten seconds.
    MISSING_LIBRARIES = "missing libraries"
    NO_OUTPUT = "no output file"
    OUT_OF_MEMORY = "out of memory"
    DISK_FULL = "disk full"
    #: A folder of the worker cannot be written or read.
    FOLDER = "folder not usable"
    #: The renderer archive starts the PC's own Blender, and there is none that starts.
    NO_BLENDER = "no Blender"
    #: Blender says so of the scene.
    NO_CAMERA = "no camera"
    #: The scene wants a render engine, or a denoiser, that this Blender does not have.
    NO_ENGINE = "engine not there"
    #: Blender cannot read the file: damaged, or written by a newer Blender.
    SCENE_UNREADABLE = "scene not readable"
    #: Blender says that there is nothing to render: no layer, no output node, no border.
    NOTHING_TO_RENDER = "nothing to render"
    TIME_LIMIT = "time limit"
    #: An archive cannot be extracted, or does not hold what the order names.
    BAD_ARCHIVE = "bad archive"
    #: The order itself cannot be carried out (unknown placeholders, hostile paths).
    BAD_ORDER = "bad order"
    #: The node is stopping; nobody's fault, and no attempt is used up.
    NODE_LEAVING = "node leaving"
    #: The depot could not be reached for an archive.
    NO_ARCHIVE = "archive not fetched"
    #: What came out is no picture, or not one that may go to the server.
    BAD_PICTURE = "bad picture"
    #: The coordinator's own: the server did not store the picture, however often it was sent.
    NOT_UPLOADED = "not uploaded"
    #: Something of ours went wrong.
    INTERNAL = "internal error"
    #: Nobody wants the frame here any more. Said by the coordinator only.
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class FailureReport:
    """An attempt that gave no picture."""

    kind: FailureKind
    #: One line for a person.
    reason: str
    #: The renderer's output, last part; at most a few hundred kB.
    log: str = ""
    render_s: float = 0.0
    memory_kb: int = 0


def to_json(message: Any) -> str:
    """Any message of this file as JSON text."""
    return msgspec.json.encode(message).decode()


def from_json(kind: type[T], text: str | bytes) -> T:
    """A message of ``kind`` from JSON text.

    Raises :class:`MalformedContract` when the text is not JSON, lacks a field or holds one of the wrong type.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedContract(f"not a {kind.__name__}: {error}") from None


def archive_pass(farm_token: str, md5: str) -> str:
    """What an archive server wants to see: made of the farm token, which PCs do not show to each other.

    A source's address may have been given to somebody else's PC by now: all it learns is a way to this one archive.
    """
    return hmac.new(farm_token.encode(), f"archive {md5}".encode(), hashlib.sha256).hexdigest()


def sign_order(order: RenderOrder, key: Ed25519PrivateKey) -> SignedOrder:
    """The order as it travels."""
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
