"""Pieces: how long, which sums, and who has which."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sheepfold.sharing.pieces import (
    ALL,
    BLOCK_BYTES,
    MAX_PIECES,
    BlockSums,
    all_of,
    from_text,
    numbers_in,
    piece_bytes_of,
    pieces_in,
    span_of,
    sum_of,
    to_text,
)

GIB = 1024**3


@pytest.mark.parametrize(
    ("size", "length"), [(0, 1), (1, 1), (200_000_000, 1), (4 * GIB, 1), (4 * GIB + 1, 2), (64 * GIB, 16)]
)
def test_pieces_grow_with_the_archive_so_that_there_are_never_too_many(size: int, length: int) -> None:
    assert piece_bytes_of(size) == length * BLOCK_BYTES
    assert pieces_in(size, piece_bytes_of(size)) <= MAX_PIECES


def test_the_last_piece_ends_with_the_archive() -> None:
    assert span_of(0, 2500, 1000) == (0, 1000)
    assert span_of(2, 2500, 1000) == (2000, 2500)


@given(st.lists(st.integers(0, BLOCK_BYTES + 5), max_size=4), st.sampled_from([1, 2, 4]))
def test_sums_do_not_depend_on_how_the_archive_came_in(lengths: list[int], blocks: int) -> None:
    content = b"".join(bytes([number + 1]) * length for number, length in enumerate(lengths))
    sums, at = BlockSums(), 0
    for length in lengths:
        sums.update(content[at : at + length])
        at += length
    step = blocks * BLOCK_BYTES
    pieces = [content[first : first + step] for first in range(0, len(content), step)]
    assert sums.of_pieces(step) == tuple(sum_of(piece) for piece in pieces)


def test_the_sum_of_a_piece_is_the_sum_of_its_blocks_sums() -> None:
    piece = os.urandom(BLOCK_BYTES + 7)
    blocks = hashlib.sha256(piece[:BLOCK_BYTES]).digest() + hashlib.sha256(piece[BLOCK_BYTES:]).digest()
    assert sum_of(piece) == hashlib.sha256(blocks).hexdigest()


def test_one_changed_byte_changes_the_sum() -> None:
    piece = bytearray(2 * BLOCK_BYTES)
    before = sum_of(piece)
    piece[-1] = 1
    assert sum_of(piece) != before


@given(st.integers(0, 300), st.integers(min_value=0))
def test_what_somebody_has_travels_as_text(count: int, pieces: int) -> None:
    pieces &= all_of(count)
    assert from_text(to_text(pieces, count), count) == pieces
    assert sum(1 << number for number in numbers_in(pieces)) == pieces


def test_pieces_that_do_not_exist_are_nobodys() -> None:
    assert from_text("ff", 3) == 0b111
    assert from_text(ALL, 3) == 0b111


@pytest.mark.parametrize("text", ["", "xyz", "-1", "0x1", "ALL", "f" * 1025, "1 ", "١"])
def test_a_text_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="which pieces"):
        from_text(text, 3)
