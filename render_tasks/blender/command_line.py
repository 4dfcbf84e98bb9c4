"""Expands the server's command line into an argument list. Pure.

The line is split on spaces and only whole words are placeholders, so that ``scene.c`` or ``.only`` stay what they are::

    .e   the renderer's binary, and -t N where the slot has a core limit
    .c   the scene, and -P <script file>
    .o   the output prefix
    .f   the frame

What the server wrote is not trusted: the first word must be ``.e`` (nothing but the renderer is ever started), a word
that looks like a placeholder nobody knows is refused, and frame and scene path are checked before they are used.
"""

from __future__ import annotations

import re
from pathlib import Path

from render_tasks.errors import BadOrder

_PLACEHOLDER = re.compile(r"\.[A-Za-z]")
_KNOWN = (".e", ".c", ".o", ".f")
#: Blender's own limit is 1,048,574.
_FRAME = re.compile(r"[0-9]{1,7}", re.ASCII)
_DRIVE = re.compile(r"^[A-Za-z]:")
#: What no name in a log or on a command line may hold; everything else is somebody's alphabet.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def expand(
    command_line: str, *, binary: Path, scene: Path, script: Path, prefix: Path, frame: str, cores: int | None = None
) -> list[str]:
    """The argument list that renders one frame.

    ``cores`` is the slot's limit, ``None`` where Blender may use every thread it finds.
    Raises :class:`BadOrder`.
    """
    words = [word for word in command_line.split(" ") if word]
    _check(words)
    replacements = {
        ".e": [str(binary), *(["-t", str(cores)] if cores else [])],
        ".c": [str(scene), "-P", str(script)],
        ".o": [str(prefix)],
        ".f": [str(frame_number(frame))],
    }
    return [part for word in words for part in replacements.get(word, [word])]


def _check(words: list[str]) -> None:
    if not words or words[0] != ".e" or words.count(".e") != 1:
        raise BadOrder("the command line does not begin with the renderer (.e)")
    for word in words:
        if not word.isprintable():
            raise BadOrder(f"the command line holds a control character in {word!r}")
        if _PLACEHOLDER.fullmatch(word) and word not in _KNOWN:
            raise BadOrder(f"the command line holds a placeholder that is not known here: {word}")
    missing = [known for known in _KNOWN if known not in words]
    if missing:
        raise BadOrder(f"the command line lacks {' '.join(missing)}")


def frame_number(frame: str) -> int:
    """The frame as Blender counts it: ``"0340"`` is 340. Raises :class:`BadOrder`."""
    if not _FRAME.fullmatch(frame):
        raise BadOrder(f"{frame[:40]!r} is not a frame number")
    return int(frame)


def scene_file(folder: Path, scene_path: str) -> Path:
    """Where the scene of an order lies inside its extracted archive. Raises :class:`BadOrder`.

    Only the name is judged here; that no link inside the folder leads out of it is checked by the extraction.
    """
    parts = [part for part in scene_path.replace("\\", "/").split("/") if part not in ("", ".")]
    absolute = scene_path.startswith(("/", "\\")) or _DRIVE.match(scene_path)
    if absolute or not parts or ".." in parts or _CONTROL.search(scene_path):
        raise BadOrder(f"{scene_path[:200]!r} is no path inside a scene archive")
    return folder.joinpath(*parts)
