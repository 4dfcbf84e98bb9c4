"""Sizes as people read them. Pure."""

from __future__ import annotations

_UNITS = ("MB", "GB", "TB")


def size_text(count: int) -> str:
    """``0.1 MB``, ``256 MB``, ``22 GB``: of 1024 each, no digits that nobody needs."""
    number, unit = count / 1024**2, 0
    while number >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} {_UNITS[unit]}" if number >= 10 or number == int(number) else f"{number:.1f} {_UNITS[unit]}"
