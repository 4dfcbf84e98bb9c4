"""What a node and a Blender that stays open say to each other. Pure.

Orders go to Blender's standard input, one JSON object per line; the first line is the word by which replies are known::

    {"word": "9f0c..."}
    {"number": 1, "frame": 340, "prefix": "/scratch/7.1/out/frame_"}

Replies come on Blender's standard output, among everything that Blender, its add-ons and the scene print there: a line
that begins with the word. The word is random and told to nobody else, so nothing prints it by accident; one channel for
both keeps them in order: what stands before a frame's reply belongs to that frame's log. ::

    9f0c...{"number": 1, "kind": "done", "why": ""}

The other half, which runs inside Blender, is :mod:`render_tasks.warm_driver`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

#: A longer line is no reply, whatever it begins with.
MAX_REPLY_BYTES = 4096
#: Of a reply's reason, this much is kept.
MAX_WHY = 500


class ReplyKind(StrEnum):
    """How a frame ended."""

    DONE = "done"
    FAILED = "failed"
    #: This scene's frames may depend on the ones rendered before: it must not be rendered in an open Blender.
    UNSUITED = "unsuited"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The end of one frame."""

    #: The order's.
    number: int
    kind: ReplyKind
    #: One line for a person, empty when done.
    why: str = ""


def hello(word: str) -> bytes:
    """The first line."""
    return json.dumps({"word": word}).encode("ascii") + b"\n"


def frame_order(number: int, frame: int, prefix: str) -> bytes:
    """One frame, please."""
    return json.dumps({"number": number, "frame": frame, "prefix": prefix}).encode("ascii") + b"\n"


class Replies:
    """Splits a renderer's output, cut anywhere, into replies and everything else."""

    def __init__(self, word: str, on_noise: Callable[[bytes], None], on_reply: Callable[[Reply], None]) -> None:
        self._word = word.encode("ascii")
        self._on_noise, self._on_reply = on_noise, on_reply
        #: The beginning of a line that may still become a reply.
        self._held = b""
        self._inside_a_line = False

    def feed(self, chunk: bytes) -> None:
        """The next bytes."""
        *lines, rest = (self._held + chunk).splitlines(keepends=True) if b"\r" not in chunk else _lines(
            self._held + chunk
        )
        raise NotImplementedError
