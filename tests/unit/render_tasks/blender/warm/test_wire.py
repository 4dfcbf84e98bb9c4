"""Orders to an open Blender, and its replies among everything else it prints."""

from __future__ import annotations

import ast
import io
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from render_tasks.blender.warm import driver as warm_driver
from render_tasks.blender.warm.wire import MAX_REPLY_BYTES, Replies, Reply, ReplyKind, frame_order, hello

WORD = "0123456789abcdef0123456789abcdef"
PARTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\n", b"\r", WORD.encode(), WORD[:9].encode(), b'{"number": 1}', b"Fra:3 Mem:9.0M\n"]),
)


def split_chunks(*chunks: bytes) -> tuple[bytes, list[Reply]]:
    noise, replies = bytearray(), list[Reply]()
    splitter = Replies(WORD, noise.extend, replies.append)
    for chunk in chunks:
        splitter.feed(chunk)
    return bytes(noise), replies


def reply_bytes(number: int, kind: str = "done", why: str = "") -> bytes:
    """As the driver writes it."""
    return ("\n" + WORD + json.dumps({"number": number, "kind": kind, "why": why}) + "\n").encode()


def test_a_reply_is_taken_out_and_the_rest_passes() -> None:
    noise, replies = split_chunks(b"Fra:3 Mem\nSaved: 'x'" + reply_bytes(4, "failed", "no\ncamera") + b"more\n")
    assert noise == b"Fra:3 Mem\nSaved: 'x'\nmore\n"
    assert replies == [Reply(number=4, kind=ReplyKind.FAILED, why="no camera")]


@given(st.lists(PARTS, max_size=12), st.lists(st.integers(0, 400), max_size=10))
def test_a_reply_is_found_however_the_pipe_cuts_it(before: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(before) + reply_bytes(7)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    noise, replies = split_chunks(*(stream[start:end] for start, end in itertools.pairwise(places)))
    assert replies[-1] == Reply(number=7, kind=ReplyKind.DONE)
    assert noise == b"".join(before) + b"\n"


@given(st.lists(PARTS, max_size=30))
def test_garbage_is_noise_to_the_last_byte_and_never_raises(chunks: list[bytes]) -> None:
    noise, replies = split_chunks(*chunks, b"\n")
    assert not replies
    assert noise == b"".join(chunks) + b"\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"", b"null", b"[]", b"7", b"{}", b'{"number": 1}', b'{"number": "x", "kind": "done"}', b"{" * 3000,
        b'{"number": 1, "kind": "perfect"}', b'{"number": 1e999, "kind": "done"}', b'{"number": 1, "kind": []}',
        b'{"number": 1, "kind": "done"', b"\xff\xfe", b'{"number": 1, "kind": "done", "x": "' + b"y" * 5000 + b'"}',
    ],
)  # fmt: skip
def test_a_line_that_begins_like_a_reply_and_is_none_is_noise(rest: bytes) -> None:
    line = WORD.encode() + rest + b"\n"
    assert split_chunks(line) == (line, [])


def test_a_line_without_end_is_not_held_back() -> None:
    noise, _ = split_chunks(WORD.encode() + b"x" * MAX_REPLY_BYTES, b"y" * 10)
    assert noise.endswith(b"y" * 10)


@given(st.integers(1, 10**6), st.integers(0, 10**7), st.text())
def test_the_two_halves_understand_each_other(number: int, frame: int, text: str) -> None:
    """The driver imports nothing of ours, so nothing but this holds them together."""
    written: list[bytes] = []
    wire = warm_driver.Wire.__new__(warm_driver.Wire)
    wire._orders = io.BytesIO(frame_order(number, frame, text))
    wire._word = json.loads(hello(WORD))["word"]
    wire._send = written.append
    rendered: list[tuple[int, str]] = []
    driver = SimpleNamespace(render=lambda *order: rendered.append(order), why_unsuited=lambda: "")
    warm_driver.serve(driver, wire)  # type: ignore[arg-type]
    assert rendered == [(frame, text)]
    assert split_chunks(*written)[1] == [Reply(number=number, kind=ReplyKind.DONE)]


def test_the_driver_tells_why_there_is_no_picture_and_goes_on() -> None:
    written: list[bytes] = []
    wire = warm_driver.Wire.__new__(warm_driver.Wire)
    wire._orders = io.BytesIO(frame_order(1, 1, "a") + frame_order(2, 2, "b") + frame_order(3, 3, "c"))
    wire._word, wire._send = WORD, written.append

    def render(frame: int, _prefix: str) -> None:
        if frame == 1:
            raise RuntimeError("Error: no camera\n" * 2000)
        if frame == 2:
            raise AttributeError("render")

    warm_driver.serve(SimpleNamespace(render=render, why_unsuited=lambda: ""), wire)  # type: ignore[arg-type]
    replies = split_chunks(*written)[1]
    assert [reply.kind for reply in replies] == [ReplyKind.FAILED, ReplyKind.FAILED, ReplyKind.DONE]
    assert replies[0].why.startswith("Error: no camera")
    assert replies[1].why == "AttributeError in the driver"


def test_the_driver_renders_nothing_of_an_unsuited_scene() -> None:
    written: list[bytes] = []
    wire = warm_driver.Wire.__new__(warm_driver.Wire)
    wire._orders, wire._word, wire._send = io.BytesIO(frame_order(1, 1, "a")), WORD, written.append
    warm_driver.serve(SimpleNamespace(why_unsuited=lambda: "a movie (x)"), wire)  # type: ignore[arg-type]
    assert split_chunks(*written)[1] == [Reply(number=1, kind=ReplyKind.UNSUITED, why="a movie (x)")]


def test_the_driver_is_python_3_7_and_imports_nothing_but_the_standard_library() -> None:
    """Blender 2.80 brought that Python, and none of our packages is on Blender's path."""
    tree = ast.parse(Path(warm_driver.__file__).read_text(), feature_version=(3, 7))
    modules = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    modules += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in modules} <= sys.stdlib_module_names
