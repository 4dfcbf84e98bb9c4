"""Which orders a Blender that stays open may render, and how it is started. Pure.

The server's line, as its specification shows it::

    .e --factory-startup --disable-autoexec -b .c -o .o -f .f -x 1

Blender acts on its arguments one after the other, so a Blender that stays open is started with the very same line, in
which ``-f .f`` has become ``-P <driver>``: scene, script, threads, engine and format are set by Blender itself, in the
server's order. The driver then renders frame after frame and never returns. What stands after ``-f`` comes too late for
the picture in Blender, and does here.

Only options are let through whose meaning is known not to depend on the frame. Everything else, and a script that
might notice the difference, has one Blender per frame.
"""

from __future__ import annotations

import re
from pathlib import Path

#: Options without a value.
_FLAGS = frozenset(
    {"-b", "--background", "--factory-startup", "-y", "--enable-autoexec", "-Y", "--disable-autoexec", "-noaudio"}
)
#: Options with a value, and what the value may be.
_VALUES = {
    name: re.compile(shape, re.ASCII)
    for names, shape in (
        (("-x", "--use-extension"), r"[01]"),
        (("-F", "--render-format"), r"[A-Z0-9_]{1,32}"),
        (("-E", "--engine"), r"[A-Z0-9_]{1,32}"),
        (("-t", "--threads"), r"[0-9]{1,4}"),
        (("-o", "--render-output"), r"\.o"),
        (("-f", "--render-frame"), r"\.f"),
    )
    for name in names
}
#: A script with one of these asks how this Blender was started, reads the orders, renders by itself or ends Blender.
_NOTICES = re.compile(r"argv|cmdline|\bstdin\b|\binput\s*\(|\bops\.render\b|quit_blender|exit\s*\(|SystemExit")
#: How a .blend begins: plain, gzip (before 3.0), Zstandard.
_BLEND = re.compile(rb"BLENDER[-_0-9vV]{5}|\x1f\x8b|\x28\xb5\x2f\xfd", re.DOTALL)
#: So much of a file is needed to see that.
BLEND_HEAD_BYTES = 12


def why_not_warm(command_line: str, script: str) -> str:
    """Why this order needs a Blender of its own; empty where it does not."""
    if found := _NOTICES.search(script):
        return f"its script has {found.group().strip()}"
    return _unknown([word for word in command_line.split(" ") if word])


def _unknown(words: list[str]) -> str:
    if words[:1] != [".e"]:
        return "its command line does not begin with .e"
    rest = words[1:]
    placeholders: list[str] = []
    while rest:
        word = rest.pop(0)
        if word in _VALUES:
            if not rest or not _VALUES[word].fullmatch(rest[0]):
                return f"its command line has {word} with something unknown"
            placeholders += [value for value in (rest.pop(0),) if value in (".o", ".f")]
        elif word == ".c":
            placeholders.append(word)
        elif word not in _FLAGS:
            return f"its command line has {word[:40]!r}"
    return "" if placeholders == [".c", ".o", ".f"] else "its command line is not scene, output, frame"


def looks_like_a_scene(head: bytes) -> bool:
    """Whether a file begins as a .blend does; a renderer that reads anything else is no Blender."""
    return len(head) >= BLEND_HEAD_BYTES and _BLEND.match(head) is not None


def expand_warm(
    command_line: str,
    *,
    binary: Path,
    scene: Path,
    script: Path,
    prefix: Path,
    driver: Path,
    cores: int | None = None,
) -> list[str]:
    """The argument list of a Blender that stays open; the line is one that :func:`why_not_warm` lets through."""
    words = [word for word in command_line.split(" ") if word]
    place = words.index(".f")
    words[place - 1 : place + 1] = ["-P", ".f"]
    replacements = {
        ".e": [str(binary), *(["-t", str(cores)] if cores else [])],
        ".c": [str(scene), "-P", str(script)],
        ".o": [str(prefix)],
        ".f": [str(driver)],
    }
    return [part for word in words for part in replacements.get(word, [word])]
