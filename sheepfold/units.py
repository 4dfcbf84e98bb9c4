"""Figures as a person reads them: ``1 h 5 min``, ``22 GB``."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB")


def duration_text(seconds: float) -> str:
    """``4 s``, ``12 min``, ``1 h 5 min``, ``3 d 2 h``: at most two units, rounded to the smaller one."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        # Seconds still matter in the first minutes.
        return f"{whole // 60} min {whole % 60} s" if whole < 600 and whole % 60 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(whole / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def bytes_text(count: float) -> str:
    """``980 kB``, ``1.2 GB``, ``22 GB``, in powers of 1024: two digits where one would be coarse."""
    size, unit = float(max(0, count)), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 9.95 else f"{size:.0f} {_UNITS[unit]}"
