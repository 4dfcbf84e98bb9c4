"""Reads Blender's output: how far a render is, how long it will take, how much memory it needed. Pure.

Each line updates a :class:`Progress`; a line that says nothing leaves it as it is, and no line can raise. Which pattern
gives the fraction depends on the server's ``update_method``; memory is read from every line. The shapes, without the
``Fra:12 Mem:39.50M (0.00M, Peak 49.61M) |`` that most lines begin with::

    2.7x  Time:00:00.35 | Sce: Scene Ve:8 Fa:6 La:1 | Part 3-16
    2.7x  Time:00:01.20 | Remaining:00:03.10 | Mem:0.95M, Peak:5.26M | Scene, RenderLayer | Path Tracing Tile 5/24
    2.8x  Time:00:00.31 | Remaining:00:01.43 | Mem:0.06M, Peak:5.26M | Scene, View Layer | Rendered 3/16 Tiles
    2.9x  Time:00:02.60 | Remaining:01:10:05.20 | Mem:20.54M, Peak:21.00M | ... | Rendered 0/1 Tiles, Sample 1/128
    3.x   Time:00:00.64 | Remaining:00:00.29 | Mem:1.02M, Peak:1.02M | Scene, ViewLayer | Sample 32/128
    4.x   Time:00:01.02 | Remaining:00:01.10 | Mem:10M | Scene, ViewLayer | Rendering 5 / 64 samples
    5.x   00:02.345  render | Fra: 1 | Remaining: 00:03.12 | Mem: 120M | Sample 16/64
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

#: ``Remaining:00:03.10``, ``Remaining:01:10:05.20``, with or without a space after the colon.
_REMAINING = re.compile(r"\bRemaining:\s*((?:\d{1,6}:){0,2}\d{1,6}(?:\.\d{1,6})?)", re.ASCII)
#: ``Time:00:01.20``; not the ``Time:`` of ``Saving``, which ends a line.
_ELAPSED = re.compile(r"\bTime:\s*((?:\d{1,6}:){0,2}\d{1,6}(?:\.\d{1,6})?)", re.ASCII)
#: ``Part 3-16``.
_PART = re.compile(r"\bParts? (\d{1,9})-(\d{1,9})\b", re.ASCII)
#: ``Tile 5/24``.
_TILE = re.compile(r"\bTile (\d{1,9})/(\d{1,9})\b", re.ASCII)
#: ``Rendered 3/16 Tiles``.
_RENDERED = re.compile(r"\bRendered (\d{1,9})\s?/\s?(\d{1,9})\b", re.ASCII)
#: ``Sample 12/64``; 4.x and later also ``Rendering 5 / 64 samples``.
_SAMPLE = re.compile(r"\b(?:Samples?|Rendering):? (\d{1,9})\s?/\s?(\d{1,9})\b", re.ASCII)
#: ``Peak 10.83M``, ``Peak:5.26M``, ``Mem:39.50M``, ``Mem: 1.2G``.
_MEMORY = re.compile(r"\b(?:Peak|Mem)[: ]\s?(\d{1,12}(?:\.\d{1,6})?)([KMGT])", re.ASCII)
_KB_IN = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
#: A line longer than this says nothing that the first part of it does not.
_MAX_LINE = 2000


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What Blender has said so far."""

    #: 0 to 1, ``None`` while nothing is known.
    fraction: float | None = None
    #: Seconds Blender expects to need, ``None`` where it does not say.
    remaining_s: float | None = None
    #: Blender's own peak memory, kB.
    memory_kb: int = 0


def read_line(line: str, method: str, so_far: Progress) -> Progress:
    """The progress after one line of output; ``method`` is the job's ``update_method``."""
    line = line[:_MAX_LINE]
    memory = max([so_far.memory_kb, *(_kilobytes(*found) for found in _MEMORY.findall(line))])
    remaining = _seconds(_REMAINING.search(line))
    fraction = _fraction(line, method, remaining)
    return replace(
        so_far,
        memory_kb=memory,
        remaining_s=so_far.remaining_s if remaining is None else remaining,
        fraction=so_far.fraction if fraction is None else fraction,
    )


def _fraction(line: str, method: str, remaining: float | None) -> float | None:
    if method == "blenderinternal":
        return _ratio(_PART.search(line))
    if method == "by_tile":
        return _by_tile(line)
    # ``remainingtime`` and anything unknown: the clock first, counted parts where there is none.
    elapsed = _seconds(_ELAPSED.search(line))
    if remaining is not None and elapsed is not None and elapsed + remaining > 0:
        return elapsed / (elapsed + remaining)
    return _by_tile(line)


def _by_tile(line: str) -> float | None:
    """Tiles, refined by the samples of the current tile where a line tells both."""
    tiles, samples = _RENDERED.search(line) or _TILE.search(line), _SAMPLE.search(line)
    done, sampled = _ratio(tiles), _ratio(samples)
    if tiles and done is not None:
        if tiles.re is _RENDERED and sampled is not None and done < 1:
            return min(1.0, done + sampled / max(1, int(tiles.group(2))))
        return done
    return sampled


def _ratio(found: re.Match[str] | None) -> float | None:
    if found is None or int(found.group(2)) == 0:
        return None
    return min(1.0, int(found.group(1)) / int(found.group(2)))


def _seconds(found: re.Match[str] | None) -> float | None:
    if found is None:
        return None
    seconds = 0.0
    for part in found.group(1).split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def _kilobytes(number: str, unit: str) -> int:
    return int(float(number) * _KB_IN[unit])
