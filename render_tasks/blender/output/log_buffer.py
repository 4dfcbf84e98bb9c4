"""A renderer's output: every line once, and a log of bounded size.

A renderer may print gigabytes, or one line without end. What is kept is the beginning (what it is, what it could not
load) and the end (what it died of), with a note about what is missing between them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

HEAD_BYTES = 64 * 1024
TAIL_BYTES = 256 * 1024
#: Blender's longest lines have a few hundred characters.
MAX_LINE_BYTES = 8 * 1024


class LogBuffer:
    """Takes chunks of bytes, gives lines, keeps the log."""

    def __init__(
        self, on_line: Callable[[str], None], *, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES
    ) -> None:
        self._on_line = on_line
        self._head_bytes, self._tail_bytes = head_bytes, tail_bytes
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._dropped = 0
        self._line = bytearray()

    def feed(self, chunk: bytes) -> None:
        """The next bytes, cut anywhere; ``on_line`` is called in this thread."""
        self._keep(chunk)
        *whole, rest = chunk.replace(b"\r", b"\n").split(b"\n")
        for part in whole:
            self._add(part)
            self._emit()
        self._add(rest)

    def close(self) -> None:
        """Gives out a last line that has no line end."""
        self._emit()

    def text(self) -> str:
        """The log so far, undecodable bytes replaced; at most head, tail and one line about the gap."""
        gap = f"\n... {self._dropped} bytes not kept ...\n".encode() if self._dropped else b""
        return (bytes(self._head) + gap + b"".join(self._tail)).decode("utf-8", "replace")

    def _add(self, part: bytes) -> None:
        self._line += part[: max(0, MAX_LINE_BYTES - len(self._line))]

    def _emit(self) -> None:
        if self._line:
            line = self._line.decode("utf-8", "replace")
            self._line.clear()
            self._on_line(line)

    def _keep(self, chunk: bytes) -> None:
        missing = self._head_bytes - len(self._head)
        if missing > 0:
            self._head += chunk[:missing]
            chunk = chunk[missing:]
        if chunk:
            self._tail.append(chunk)
            self._tail_size += len(chunk)
        while self._tail_size > self._tail_bytes:
            oldest = self._tail.popleft()
            excess = self._tail_size - self._tail_bytes
            if excess < len(oldest):
                self._tail.appendleft(oldest[excess:])
            gone = min(excess, len(oldest))
            self._tail_size -= gone
            self._dropped += gone
