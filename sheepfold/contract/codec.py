"""JSON, the only way over a process boundary: to_json and from_json. Pure.

A reader ignores fields it does not know and refuses a message that lacks one it needs.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from .errors import MalformedContract

T = TypeVar("T")


def to_json(message: Any) -> str:
    """Any message of this file as JSON text."""
    return msgspec.json.encode(message).decode()


def from_json(kind: type[T], text: str | bytes) -> T:
    """A message of ``kind`` from JSON text.

    Raises :class:`MalformedContract` when the text is not JSON, lacks a field or holds one of the wrong type.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedContract(f"not a {kind.__name__}: {error}") from None
