"""The messages of the LAN API, between nodes and the coordinator. Pure.

The coordinator's LAN API (``Authorization: Bearer <farm token>`` on every call, and on every one with a ``node=`` that
node's secret in :data:`NODE_SECRET_HEADER`, else 403)::

    GET  /farm-ca.pem                                  the farm's authority: for everybody, known by its fingerprint
    POST /api/certificate                              CertificateRequest → CertificateAnswer; the code is enough
    POST /api/join                                     JoinRequest → JoinAnswer
    GET  /api/archives/{md5}?node=&url=                ArchiveManifest, 404: not here; url: where the asking node serves
    GET  /api/archives/{md5}/sources?node=&url=        ArchiveSources: the same without the sums
    POST /api/leases/{id}/start?node=&attempt=&claim=  StartAnswer, or 409: drop this order; claim: a random word
    PUT  /api/leases/{id}/frame?node=&attempt=&...     FrameReport as query, picture as body: 200, 409 drop, 422 bad
    POST /api/leases/{id}/failure?node=&attempt=       FailureReport: 200, or 409 drop

An archive server (HTTP on the LAN, the coordinator's and one on each node; ``Authorization: Bearer`` and the archive's
pass, see :func:`archive_pass`)::

    GET /archives/{md5}          the archive, with Range, as far as it is here; 416: not these bytes, 503: too many ask
    GET /archives/{md5}/pieces   which pieces are here, as in :mod:`sheepfold.sharing.pieces`; every answer's
                                 ``X-Sheepfold-Pieces`` says the same

"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import msgspec

from .presence import Compute, NodeHardware, NodeId, ShortText, SlotCount

#: Raised when a message changes its meaning; a worker with another number is told to update.
CONTRACT_VERSION = 5

#: A node's own secret, by which a call proves that it is the node it names.
NODE_SECRET_HEADER = "X-Sheepfold-Node-Secret"  # noqa: S105 (a header's name)

#: An archive server says here which pieces it has.
PIECES_HEADER = "X-Sheepfold-Pieces"

#: Where a node serves archives: an address, and nothing that could lead elsewhere.
ARCHIVE_URL = re.compile(r"http://(?:[0-9A-Za-z.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ArchiveSources:
    """Where an archive can be had from."""

    #: Root URLs of nodes that have it or parts of it, a few of them by chance.
    nodes: tuple[str, ...] = ()
    #: Root URL of the coordinator's archive server, the peer to ask when no node has it.
    coordinator: str


@dataclass(frozen=True, kw_only=True)
class ArchiveManifest:
    """How an archive travels: in pieces that can be told right from wrong one by one."""

    md5: str
    #: Bytes.
    size: int
    #: Bytes of every piece but the last.
    piece_bytes: int
    #: Of each piece, as :func:`sheepfold.sharing.pieces.sum_of` makes it.
    sums: tuple[str, ...]
    sources: ArchiveSources


@dataclass(frozen=True, kw_only=True)
class StartAnswer:
    """The start-fence lets this attempt pass, and says what no queue may hold."""

    #: Opens the scene's zip; empty: it is not locked, or the coordinator has no password for it.
    scene_password: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class CertificateRequest:
    """A PC asks for the certificate by which it is a node from now on."""

    #: Of the invitation; empty: the PC shows its certificate and asks for another one.
    code: Annotated[str, msgspec.Meta(max_length=128)] = field(repr=False)
    #: Who it would like to be.
    node_id: NodeId
    #: As in :attr:`JoinRequest.secret`: whoever has it is that node already.
    secret: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] = field(repr=False)
    #: PEM: signed with the PC's own key, which never leaves it.
    request: Annotated[str, msgspec.Meta(max_length=8192)]


@dataclass(frozen=True, kw_only=True)
class CertificateAnswer:
    """The answer to a request for a node's certificate: signed by the farm's authority, and whose it is."""

    #: PEM.
    certificate: str
    #: Whom it is for; another id where the one that was asked for is another PC's.
    node_id: NodeId


@dataclass(frozen=True, kw_only=True)
class JoinRequest:
    """A worker asks to be one of the farm's nodes."""

    contract_version: int
    #: Stable UUID kept in the work folder.
    node_id: NodeId
    #: What proves from now on that a call is this node's: random hex, made once and kept in the work folder.
    secret: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] = field(repr=False)
    #: The name the PC would like to have.
    wanted_name: ShortText
    hardware: NodeHardware
    slots: SlotCount
    compute: Compute
    version: ShortText = ""
    #: ``<lease id>.<attempt>`` of finished frames that an earlier process kept and this one is about to deliver.
    kept: Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=2048)] = ()
    #: The first join of a worker process: it holds nothing but what it kept.
    fresh: bool = False
    #: Names the PC and the work folder: a worker that was started anew has the same one, a copy of the folder another.
    installation: ShortText = ""
    #: As in :attr:`Presence.blender`.
    blender: ShortText = ""


@dataclass(frozen=True, kw_only=True)
class JoinAnswer:
    """What a node needs to take orders."""

    #: ``wanted_name``, made unique.
    name: str
    #: Holds a password; never logged.
    redis_url: str = field(repr=False)
    queue: str
    #: Which farm this is; a node follows no other one's orders.
    farm_id: ShortText
    #: Ed25519 public key, raw bytes in base64: orders and cancels are signed with its private half.
    order_key: str
    #: What the passes of archives are made of, see :func:`archive_pass`.
    archive_key: str = field(default="", repr=False)
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
    #: It wrote more, or started more processes, than a render may.
    RESOURCE_LIMIT = "resource limit"
    #: An archive cannot be extracted, or does not hold what the order names.
    BAD_ARCHIVE = "bad archive"
    #: The order itself cannot be carried out (unknown placeholders, hostile paths).
    BAD_ORDER = "bad order"
    #: The node is stopping; nobody's fault, and no attempt is used up.
    NODE_LEAVING = "node leaving"
    #: The coordinator could not be reached for an archive.
    NO_ARCHIVE = "archive not fetched"
    #: What came out is no picture, or not one that may go to the server.
    BAD_PICTURE = "bad picture"
    #: The coordinator's own: the server did not store the picture, however often it was sent.
    NOT_UPLOADED = "not uploaded"
    #: Something of ours went wrong.
    INTERNAL = "internal error"
    #: The frame took its nodes down, the last one while it rendered there alone. Said by the coordinator only.
    NODES_DOWN = "takes PCs down"
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


def archive_key(farm_token: str) -> str:
    """What the farm's PCs make passes of; the farm token cannot be found from it."""
    return hmac.new(farm_token.encode(), b"archives", hashlib.sha256).hexdigest()


def archive_pass(key: str, md5: str) -> str:
    """What an archive server wants to see: made of the archive key, which PCs do not show to each other.

    A peer's address may have been given to somebody else's PC by now: all it learns is a way to this one archive.
    """
    return hmac.new(key.encode(), f"archive {md5}".encode(), hashlib.sha256).hexdigest()
