"""The log of every command: one printable line an event, to standard error.

Names of jobs, PCs and files, and what Blender and servers say, come from elsewhere. A line end among them would begin a
line that nobody logged, and an escape sequence would do to a terminal what it likes, so each is written as Python
writes it in a string (``\\n``, ``\\x1b``). The lines of a traceback follow their event behind a bar.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any

#: Time, level, the module that speaks, and what it says.
FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_TRACEBACK_LINE = "    | "


class OneLineFormatter(logging.Formatter):
    """Writes each record as one printable line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class's name)
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the base class's name)
        """A traceback, each line behind a bar."""
        return _behind_a_bar(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 (the base class's name)
        """A stack, each line behind a bar."""
        return _behind_a_bar(super().formatStack(stack_info))


def log_to_stderr(level: int = logging.INFO, *, quiet: Iterable[str] = ()) -> None:
    """From now on, in place of what was set up before; loggers named in ``quiet`` only warn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter(FORMAT))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


def printable(text: str) -> str:
    """The text on one line: line ends, escapes and all else that is not printable as Python writes it in a string."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def printable_lines(text: str) -> str:
    """The same line by line, for a text of several lines; tabs stay."""
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.splitlines())


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _behind_a_bar(text: str) -> str:
    return "\n".join(_TRACEBACK_LINE + line for line in printable_lines(text).split("\n"))
