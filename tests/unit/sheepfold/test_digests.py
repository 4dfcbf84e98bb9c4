"""The MD5 of a file, and a way to end the reading of a large one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sheepfold.digests import CHUNK_BYTES, file_md5


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_it_is_the_sum_of_the_whole_file(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(b"x" * size)
    assert file_md5(tmp_path / "a") == hashlib.md5(b"x" * size).hexdigest()


def test_what_the_callback_raises_ends_the_reading(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (2 * CHUNK_BYTES + 1))
    chunks: list[int] = []

    def stop_at_second(chunk: bytes) -> None:
        chunks.append(len(chunk))
        if len(chunks) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        file_md5(tmp_path / "a", stop_at_second)
    assert chunks == [CHUNK_BYTES, CHUNK_BYTES]


def test_the_callback_gets_the_whole_content_in_order(tmp_path: Path) -> None:
    content = bytes(range(256)) * (CHUNK_BYTES // 256) + b"the end"
    (tmp_path / "a").write_bytes(content)
    chunks: list[bytes] = []
    file_md5(tmp_path / "a", chunks.append)
    assert b"".join(chunks) == content
