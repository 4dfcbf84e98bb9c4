"""Single values of a message, read: sums, numbers, switches. Strict or lenient by what depends on them.

A sum that becomes a path or an id that must go back unchanged has to be right; a figure for a person (frames
remaining, memory used) is dropped when it is unusable. What is wrong raises :class:`MalformedMessage`, named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

from .errors import MalformedMessage
from .status import status_of
from .xml_document import Element

S = TypeVar("S", bound=IntEnum)

_MD5 = re.compile("[0-9a-fA-F]{32}")
# Eighteen digits fit a signed 64-bit integer, and no memory of a PC has more.
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,18})\s*")
_YES = frozenset({"1", "true", "yes"})


def need(fields: Mapping[str, str], *names: str) -> None:
    """Raises :class:`MalformedMessage` that lists those of ``names`` that are missing or empty."""
    missing = [name for name in names if not fields.get(name)]
    if missing:
        raise MalformedMessage(f"missing parameter: {', '.join(missing)}")


def need_attributes(element: Element, tag: str, *names: str) -> None:
    """As :func:`need`, for the attributes of an element called ``tag``."""
    missing = [name for name in names if not element.attribute(name)]
    if missing:
        raise MalformedMessage(f"<{tag}> lacks {', '.join(missing)}")


def read_status(root: Element, kind: type[S]) -> S | int:
    """The answer's status; a number where nobody knows it."""
    text = root.attribute("status")
    if text is None:
        raise MalformedMessage("the answer has no status")
    return status_of(kind, read_number(text, "status"))


def read_md5(element: Element, name: str) -> str:
    """An attribute of 32 hex digits, in lower case."""
    text = element.attribute(name) or ""
    if not _MD5.fullmatch(text):
        raise MalformedMessage(f"{name} is 32 hex digits, not {text[:40]!r}")
    return text.lower()


def read_number(text: str, what: str) -> int:
    """A whole number, signed; ``what`` names it in the error."""
    found = _NUMBER.fullmatch(text)
    if not found:
        raise MalformedMessage(f"{what} is a whole number, not {text[:40]!r}")
    return int(found[1])


def read_count(text: str, what: str) -> int:
    """A whole number from 0; ``what`` names it in the error."""
    number = read_number(text, what)
    if number < 0:
        raise MalformedMessage(f"{what} is not negative, but {number}")
    return number


def usable_number(text: str | None, *, least: int = 0) -> int | None:
    """A figure nobody depends on: ``None`` where it is missing or nonsense."""
    found = _NUMBER.fullmatch(text) if text else None
    return int(found[1]) if found and int(found[1]) >= least else None


def is_yes(text: str | None) -> bool:
    """Whether the text is one of the words for yes; a missing or unknown one is a no."""
    return text is not None and text.strip().lower() in _YES
