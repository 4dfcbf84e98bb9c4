"""Where the pieces of archives begin and end. A piece is known by its MD5.

Every method is one transaction. Only the server's database thread calls them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from .database import Store, chunks


@dataclass(frozen=True, kw_only=True)
class Piece:
    """So many bytes of an archive from an offset on, known by their MD5."""

    md5: str
    #: Bytes.
    offset: int
    bytes: int


class ChunkTable:
    """The pieces of every archive that was ever cut, in the order of its bytes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pieces_of(self, archive_md5: str) -> tuple[Piece, ...]:
        """An archive's pieces in order; none where it was not cut yet."""
        listed = select(chunks).where(chunks.c.archive_md5 == archive_md5).order_by(chunks.c.position)
        with self._store.transaction() as db:
            return tuple(Piece(md5=row.md5, offset=row.offset, bytes=row.bytes) for row in db.execute(listed))

    def put(self, archive_md5: str, pieces: tuple[Piece, ...]) -> None:
        """Remember an archive's pieces, in place of earlier ones."""
        rows = [{"archive_md5": archive_md5, "position": i, **vars(piece)} for i, piece in enumerate(pieces)]
        with self._store.transaction() as db:
            db.execute(delete(chunks).where(chunks.c.archive_md5 == archive_md5))
            db.execute(insert(chunks), rows)

    def find(self, md5: str) -> tuple[str, Piece] | None:
        """A piece and the MD5 of an archive that holds it."""
        with self._store.transaction() as db:
            row = db.execute(select(chunks).where(chunks.c.md5 == md5).limit(1)).first()
        return None if row is None else (row.archive_md5, Piece(md5=row.md5, offset=row.offset, bytes=row.bytes))
