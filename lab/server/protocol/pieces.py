"""Pieces of archives on the wire: who is told of them, and how one is sent."""

from __future__ import annotations

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lab.server.chunks import READ_BYTES, PieceFile

#: Clients from this version on fetch scenes in pieces; earlier ones fetch the archive.
FIRST_VERSION_WITH_PIECES = 7


def takes_pieces(version: str) -> bool:
    """Whether a client of this version is told of more than one piece."""
    major = version.partition(".")[0]
    return major.isascii() and major.isdigit() and len(major) < 10 and int(major) >= FIRST_VERSION_WITH_PIECES


class PieceResponse(Response):
    """A stretch of a file as an answer, read and sent bit by bit."""

    def __init__(self, piece: PieceFile) -> None:
        self._piece = piece
        headers = {"content-length": str(piece.bytes)}
        super().__init__(headers=headers, media_type="application/octet-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        left = 0 if scope["method"] == "HEAD" else self._piece.bytes
        async with await anyio.open_file(self._piece.path, "rb") as file:
            await file.seek(self._piece.offset)
            while left:
                data = await file.read(min(READ_BYTES, left))
                if not data:
                    raise RuntimeError(f"{self._piece.path.name} is shorter than its pieces say")
                left -= len(data)
                await send({"type": "http.response.body", "body": data, "more_body": left > 0})
        if self._piece.bytes == 0 or scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
