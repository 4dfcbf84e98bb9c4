"""What an archive server may send of one archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .pieces import all_of, pieces_in


@dataclass(frozen=True, kw_only=True)
class SharedArchive:
    """What an archive server may send of one archive."""

    path: Path
    #: Bytes.
    size: int
    #: Bytes of a piece.
    piece_bytes: int
    #: The pieces that are right.
    pieces: int

    @property
    def count(self) -> int:
        """How many pieces the archive has."""
        return pieces_in(self.size, self.piece_bytes)

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte from ``start`` up to ``end`` lies in a piece that is right."""
        if not 0 <= start < end <= self.size:
            return False
        first, last = start // self.piece_bytes, (end - 1) // self.piece_bytes
        wanted = all_of(last + 1) & ~all_of(first)
        return self.pieces & wanted == wanted
