"""What a node and a Blender that stays open say to each other. Pure.

Orders go to Blender's standard input, one JSON object per line; the first line is the word by which replies are known::

    {"word": "9f0c..."}
    {"number": 1, "frame": 340, "prefix": "/scratch/7.1/out/frame_"}

Replies come on Blender's standard output, among everything that Blender, its add-ons and the scene print there: a line
that begins with the word. The word is random and told to nobody else, so nothing prints it by accident; one channel for
both keeps them in order: what stands before a frame's reply belongs to that frame's log. ::

    9f0c...{"number": 1, "kind": "done", "why": ""}

Its counterpart, which runs inside Blender, is :mod:`render_tasks.blender.warm.driver`.
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
    """How a frame ended, as the driver tells the node."""

    DONE = "done"
    FAILED = "failed"
    #: This scene's frames may depend on the ones rendered before: it must not be rendered in an open Blender.
    UNSUITED = "unsuited"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the driver says at the end of a frame."""

    #: The order's.
    number: int
    kind: ReplyKind
    #: One line for a person, empty when done.
    why: str = ""


def hello(word: str) -> bytes:
    """The first line to Blender: the word that its replies begin with."""
    return json.dumps({"word": word}).encode("ascii") + b"\n"


def frame_order(number: int, frame: int, prefix: str) -> bytes:
    """Asks for one frame; ``prefix`` is the path of its picture without number and suffix."""
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
        """The next bytes; calls back in this thread, in the order of the output."""
        *lines, rest = (self._held + chunk).split(b"\n")
        noise = bytearray()
        for line in lines:
            reply = None if self._inside_a_line else self._reply_in(line)
            self._inside_a_line = False
            if reply is None:
                noise += line + b"\n"
                continue
            self._pass_on(noise)
            self._on_reply(reply)
        self._held = b"" if self._inside_a_line or not self._may_become_one(rest) else rest
        if not self._held:
            noise += rest
            self._inside_a_line |= bool(rest)
        self._pass_on(noise)

    def _pass_on(self, noise: bytearray) -> None:
        if noise:
            self._on_noise(bytes(noise))
            noise.clear()

    def _may_become_one(self, line: bytes) -> bool:
        return len(line) <= MAX_REPLY_BYTES and (self._word.startswith(line) or line.startswith(self._word))

    def _reply_in(self, line: bytes) -> Reply | None:
        if len(line) > MAX_REPLY_BYTES or not line.startswith(self._word):
            return None
        try:
            said = json.loads(line[len(self._word) :])
            return Reply(number=int(said["number"]), kind=ReplyKind(said["kind"]), why=_one_line(said.get("why", "")))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:MAX_WHY]
