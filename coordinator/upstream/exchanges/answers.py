"""What an HTTP answer of the render server says: a message of the protocol, or an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeVar

from coordinator.upstream.errors import ArchiveGone, BadResponse
from coordinator.upstream.transport.deadline import Deadline
from coordinator.upstream.transport.http_transport import LATER, SLOWEST_TRANSFER, Response
from sheepfold.protocol import reading_answers
from sheepfold.protocol.errors import MalformedMessage
from sheepfold.protocol.messages import ValidationAnswer
from sheepfold.protocol.status import ValidationStatus
from sheepfold.protocol.xml_document import MAX_MESSAGE_BYTES

#: The picture is larger than the server, or a proxy before it, takes.
TOO_LARGE = 413
PIECE_BYTES = 64 * 1024

T = TypeVar("T")


def message_of(response: Response, read: Callable[[bytes], T], *, limit: int = MAX_MESSAGE_BYTES) -> T:
    """The protocol's message in the answer. A 4xx may carry one; its status says more than HTTP's."""
    code = response.status_code
    if code >= 500 or code in LATER:
        raise BadResponse(f"HTTP {code}", code)
    data = bytearray()
    for piece in pieces_of(response, limit):
        data += piece
    try:
        return read(bytes(data))
    except MalformedMessage as error:
        raise BadResponse(f"HTTP {code}, {error.reason}", code) from None


def validation_of(response: Response) -> ValidationAnswer:
    """The answer to a frame; HTTP 413 means what status 306 means."""
    if response.status_code == TOO_LARGE:
        return ValidationAnswer(status=ValidationStatus.IMAGE_TOO_LARGE)
    return message_of(response, reading_answers.read_validation_answer)


def save(response: Response, deadline: Deadline, target: BinaryIO, limit: int) -> None:
    """The archive into ``target``; raises :class:`ArchiveGone` and whatever ``target`` raises."""
    if response.status_code == 404:
        raise ArchiveGone("the server no longer has this archive (HTTP 404)")
    if response.status_code != 200:
        raise BadResponse(f"HTTP {response.status_code}", response.status_code)
    for piece in pieces_of(response, limit):
        deadline.extend(len(piece) / SLOWEST_TRANSFER)
        target.write(piece)


def pieces_of(response: Response, limit: int) -> Iterator[bytes]:
    """The body, at most ``limit`` bytes of it."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadResponse("the body is compressed, which nobody asked for")
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise BadResponse(f"a body of {length[:20]} bytes is larger than the limit of {limit}")
    size = 0
    for piece in response.raw.stream(PIECE_BYTES, decode_content=False):
        size += len(piece)
        if size > limit:
            raise BadResponse(f"the body is larger than the limit of {limit} bytes")
        yield piece
