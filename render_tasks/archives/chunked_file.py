"""An archive that lies on the disk in parts, read as one file."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: A zip's table of contents is read in small steps.
_BUFFER_BYTES = 256 * 1024


def open_parts(paths: Sequence[Path]) -> BinaryIO:
    """One seekable file over all parts in their order; a single one is opened as it is. Raises OSError."""
    if len(paths) == 1:
        return paths[0].open("rb")
    return cast("BinaryIO", io.BufferedReader(ChunkedFile(paths), _BUFFER_BYTES))


class ChunkedFile(io.RawIOBase):
    """The parts' bytes, one part after the other; at most one part is open, however many there are.

    Used by one thread. The parts must keep their lengths.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        #: Where each part ends in the whole.
        self._ends = list(accumulate(path.stat().st_size for path in self._paths))
        self._at = 0
        self._open: tuple[int, io.FileIO] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """The new position, bytes from the start; past the end there is nothing to read."""
        size = self._ends[-1] if self._ends else 0
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: size}[whence]
        if at < 0:
            raise ValueError(f"position {at} lies before the file")
        self._at = at
        return at

    def tell(self) -> int:
        """The position, bytes from the start."""
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Bytes up to the end of a part; 0 at the end of the last one."""
        # The first part that ends behind the position; empty ones never do.
        number = bisect_right(self._ends, self._at)
        view = memoryview(buffer).cast("B")
        if number == len(self._ends) or not view:
            return 0
        left = self._ends[number] - self._at
        part = self._part(number)
        part.seek(self._at - (self._ends[number - 1] if number else 0))
        count = part.readinto(view[:left])
        if not count:
            raise OSError(f"part {number} of the archive has become shorter")
        self._at += count
        return count

    def close(self) -> None:
        """Closes the open part as well; may be called twice."""
        if self._open:
            self._open[1].close()
            self._open = None
        super().close()

    def _part(self, number: int) -> io.FileIO:
        if self._open is None or self._open[0] != number:
            if self._open:
                self._open[1].close()
            self._open = number, io.FileIO(self._paths[number])
        return self._open[1]
