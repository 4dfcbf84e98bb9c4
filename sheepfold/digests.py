"""The MD5 of a file, by which the render server's protocol names archives and pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

CHUNK_BYTES = 4 * 1024**2


def file_md5(path: Path, on_chunk: Callable[[bytes], None] = lambda _chunk: None) -> str:
    """Lower-case hex, of the file as it is on disk.

    ``on_chunk`` gets each 4 MiB before they count; what it raises ends the reading. Raises ``OSError``.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            on_chunk(chunk)
            digest.update(chunk)
    return digest.hexdigest()
