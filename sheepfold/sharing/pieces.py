"""Archives in pieces: how long a piece is, what its sum is, and which pieces somebody has. Pure.

An archive travels in pieces, so that a node can serve the first while the last is still on its way. Pieces of one
archive have one length, which follows from the archive's: 1 MiB up to 4 GiB, then longer ones, so that there are never
more than :data:`MAX_PIECES`.

The sum of a piece is the SHA-256 of the SHA-256 sums of its blocks of 1 MiB. Sums of blocks can be kept while an
archive comes in whose length, and so the length of its pieces, nobody knows yet.

Who has which pieces is an ``int``: bit *n* is piece *n*. As text it is hexadecimal, or ``all``.
"""

from __future__ import annotations

import hashlib
import re

BLOCK_BYTES = 1024**2
#: A plan with this many sums has 300 kB; a larger archive has longer pieces.
MAX_PIECES = 4096
#: Whoever says this has the whole archive.
ALL = "all"

_HEX = re.compile(r"[0-9a-f]{1,1024}", re.ASCII)


def piece_bytes_of(size: int) -> int:
    """The length of a piece of an archive of ``size`` bytes; its last piece may be shorter."""
    length = BLOCK_BYTES
    while size > length * MAX_PIECES:
        length *= 2
    return length


def pieces_in(size: int, piece_bytes: int) -> int:
    """How many pieces an archive of ``size`` bytes has; 0 for an empty one."""
    return -(-size // piece_bytes)


def span_of(piece: int, size: int, piece_bytes: int) -> tuple[int, int]:
    """Where a piece begins, and where the next one would."""
    return piece * piece_bytes, min(size, (piece + 1) * piece_bytes)


class BlockSums:
    """Sums up an archive block by block while it comes in."""

    def __init__(self) -> None:
        self._sums: list[bytes] = []
        self._block = hashlib.sha256()
        self._missing = BLOCK_BYTES

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes of the archive, however many."""
        rest = memoryview(data)
        while rest:
            part, rest = rest[: self._missing], rest[self._missing :]
            self._block.update(part)
            self._missing -= len(part)
            if not self._missing:
                self._sums.append(self._block.digest())
                self._block, self._missing = hashlib.sha256(), BLOCK_BYTES

    def of_pieces(self, piece_bytes: int) -> tuple[str, ...]:
        """The sum of each piece, lower-case hex, of what came in so far."""
        blocks = [*self._sums, self._block.digest()] if self._missing < BLOCK_BYTES else self._sums
        step = piece_bytes // BLOCK_BYTES
        return tuple(
            hashlib.sha256(b"".join(blocks[first : first + step])).hexdigest() for first in range(0, len(blocks), step)
        )


def sum_of(piece: bytes | bytearray | memoryview) -> str:
    """The sum of one piece, lower-case hex, as in an :class:`ArchiveManifest`."""
    sums = BlockSums()
    sums.update(piece)
    # A length that no piece exceeds: everything is one piece.
    return sums.of_pieces(BLOCK_BYTES * max(1, -(-len(piece) // BLOCK_BYTES)))[0]


def all_of(count: int) -> int:
    """Every piece of an archive that has ``count``."""
    return (1 << count) - 1


def numbers_in(pieces: int) -> list[int]:
    """The numbers of the pieces in a bit set, ascending."""
    return [number for number, bit in enumerate(reversed(f"{pieces:b}")) if bit == "1"]


def to_text(pieces: int, count: int) -> str:
    """A bit set of pieces as text: ``all``, or hexadecimal."""
    return ALL if pieces == all_of(count) else f"{pieces:x}"


def from_text(text: str, count: int) -> int:
    """The inverse of :func:`to_text`; pieces that do not exist are left out. Raises ValueError."""
    if text == ALL:
        return all_of(count)
    if not _HEX.fullmatch(text):
        raise ValueError("this does not say which pieces somebody has")
    return int(text, 16) & all_of(count)
