"""Archives in pieces: what clients since 2024 are told instead of one archive.

A scene is never cut on disk. A piece is a stretch of its archive's one file, known by its MD5, which is also its name
on the wire; the sums are made once, when the archive arrives or is first asked for in pieces, and kept in the store.
Clients of earlier generations, and archives that are small enough, get the whole archive as the only piece.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from lab.server.store.chunk_table import ChunkTable, Piece
from lab.server.store.database import Store
from sheepfold.protocol.messages import Chunk

from .threads import ServerThreads

#: Read from disk and sent at a time.
READ_BYTES = 256 * 1024
_MD5 = re.compile("[0-9a-f]{32}")


def cut(archive: Path, piece_bytes: int) -> tuple[Piece, ...]:
    """An archive's pieces in order; reads all of it."""
    pieces: list[Piece] = []
    with archive.open("rb") as file:
        offset = 0
        while True:
            digest, size = hashlib.md5(usedforsecurity=False), 0
            while size < piece_bytes and (data := file.read(min(READ_BYTES, piece_bytes - size))):
                digest.update(data)
                size += len(data)
            if size == 0:
                return tuple(pieces)
            pieces.append(Piece(md5=digest.hexdigest(), offset=offset, bytes=size))
            offset += size


class Chunks:
    """Which pieces each archive has. But for :meth:`of`, only the database thread calls."""

    def __init__(self, store: Store, threads: ServerThreads, *, chunk_bytes: int) -> None:
        self._store = store
        self._threads = threads
        self._table = ChunkTable(store)
        self._chunk_bytes = chunk_bytes
        #: One at a time: two clients that ask at once do not both read a large archive.
        self._cutting = asyncio.Lock()

    async def of(self, archive_md5: str, archive_bytes: int) -> tuple[Chunk, ...]:
        """The pieces of an archive as they are told to a client that takes several."""
        if archive_bytes <= self._chunk_bytes:
            return whole(archive_md5)
        async with self._cutting:
            pieces = await self._threads.run_in_db_thread(self.known, archive_md5, archive_bytes)
            if not pieces:
                pieces = await self._threads.run_in_image_thread(
                    cut, self._store.archive(archive_md5), self._chunk_bytes
                )
                await self._threads.run_in_db_thread(self._table.put, archive_md5, pieces)
        return tuple(Chunk(id=piece.md5, md5=piece.md5) for piece in pieces)

    def known(self, archive_md5: str, archive_bytes: int) -> tuple[Piece, ...]:
        """The pieces made earlier; none where there are none, or they have another size."""
        pieces = self._table.pieces_of(archive_md5)
        fits = pieces and pieces[0].bytes == min(self._chunk_bytes, archive_bytes)
        return pieces if fits else ()

    def find(self, chunk_id: str) -> PieceFile | None:
        """Where a piece lies; ``None`` for an unknown one. A whole archive is a piece as well."""
        if not _MD5.fullmatch(chunk_id):
            return None
        archive = self._store.archive(chunk_id)
        if archive.is_file():
            return PieceFile(path=archive, offset=0, bytes=archive.stat().st_size)
        found = self._table.find(chunk_id)
        if found is None:
            return None
        archive_md5, piece = found
        return PieceFile(path=self._store.archive(archive_md5), offset=piece.offset, bytes=piece.bytes)


def whole(archive_md5: str) -> tuple[Chunk, ...]:
    """An archive as its only piece."""
    return (Chunk(id=archive_md5, md5=archive_md5),)


@dataclass(frozen=True, kw_only=True)
class PieceFile:
    """Where a piece lies: so many bytes of a file from an offset on."""

    path: Path
    offset: int
    bytes: int
