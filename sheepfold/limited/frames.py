"""How parent and child speak over a pipe: JSON, its length before it."""

from __future__ import annotations

import json
import os
import select
import struct
import time
from typing import Any

from .errors import PipeEnded, PipeSilent

_LENGTH = struct.Struct(">I")
#: Paths and figures; a child that says more has been taken over.
MAX_BYTES = 1024 * 1024


def send(pipe: int, message: Any) -> None:
    """Writes one message, and waits while the pipe is full. Raises :class:`PipeEnded` where nobody reads it."""
    body = json.dumps(message).encode()
    rest = memoryview(_LENGTH.pack(len(body)) + body)
    try:
        while rest:
            rest = rest[os.write(pipe, rest) :]
    except OSError:
        raise PipeEnded from None


def receive(pipe: int, within_s: float | None = None) -> Any:
    """Reads one message; raises :class:`PipeEnded`, or :class:`PipeSilent` where it is not whole in time."""
    until = None if within_s is None else time.monotonic() + within_s
    (size,) = _LENGTH.unpack(_read(pipe, _LENGTH.size, until))
    if size > MAX_BYTES:
        raise PipeEnded
    try:
        return json.loads(_read(pipe, size, until))
    except (ValueError, RecursionError):
        raise PipeEnded from None


def _read(pipe: int, size: int, until: float | None) -> bytes:
    got = b""
    while len(got) < size:
        _wait(pipe, until)
        try:
            chunk = os.read(pipe, size - len(got))
        except OSError:
            raise PipeEnded from None
        if not chunk:
            raise PipeEnded
        got += chunk
    return got


def _wait(pipe: int, until: float | None) -> None:
    if until is None or not hasattr(select, "poll"):  # Windows waits for no pipe: there a child has all the time
        return
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
        raise PipeSilent
