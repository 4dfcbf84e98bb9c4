"""Names inside a project archive, and a project's default name.

Blender and Linux take nearly any name; Windows and the wire between server and PC do not. Inside an archive a file may
have another name, because the paths in the .blend are rewritten anyway. Only characters that some PC cannot keep are
replaced, each by its number, so names that differ stay different and numbered files stay numbered.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import PurePosixPath

#: Windows paths end at 260 characters, of which a worker's own folder takes a good part.
MAX_PATH = 140
MAX_PART = 100
MAX_PROJECT_NAME = 100
_FORBIDDEN = set('<>:"|?*\\/')
_TOKENS = re.compile("(<UDIM>|<UVTILE>)")
#: Devices of Windows, whatever suffix they have.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d+|lpt\d+) *(\..*)?", re.IGNORECASE | re.DOTALL)
#: Control characters, half characters, what is none, and line and paragraph separators.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


def is_unprintable(character: str) -> bool:
    """Whether no name on the wire may hold it: it breaks lines or cannot be encoded."""
    return unicodedata.category(character) in _UNPRINTABLE or character in "\ufffe\uffff"


def portable(part: str) -> str:
    """One part of a path as every system keeps it; unchanged where it is fine already."""
    text = "".join(piece if _TOKENS.fullmatch(piece) else _escaped(piece) for piece in _TOKENS.split(part))
    if text.endswith((".", " ")):
        text = text[:-1] + _number(text[-1])
    return "_" + text if _DEVICE.fullmatch(text) else text


def portable_scene(name: str) -> str:
    """The scene's own name, which ends with ``.blend``."""
    stem = name[: -len(".blend")] if name.lower().endswith(".blend") else name
    stem = portable(stem) if stem else "scene"
    if len(stem) > MAX_PART - len(".blend"):
        stem = f"{stem[:60]}_{short_hash(stem)}"
    return f"{stem}.blend"


def is_too_long(path: str) -> bool:
    """Whether some PC cannot keep this path below its own folder."""
    return len(path) > MAX_PATH or any(len(part) > MAX_PART or len(part.encode()) > 200 for part in path.split("/"))


def shortened(path: str) -> str:
    """Another path for a file whose own is too long or taken; the suffix stays."""
    name = PurePosixPath(path)
    suffix = name.suffix if len(name.suffix) <= 10 else ""
    stem = name.name[: len(name.name) - len(suffix)]
    return f"_long/{short_hash(path)}/{stem[:40].rstrip(' .')}{suffix}"


def short_hash(text: str) -> str:
    """Twelve hex digits that differ where two names differ."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def project_name(stem: str) -> str:
    """A project's name where nobody gave one, from that of its file: printable, and not longer than a server takes."""
    text = "".join(" " if is_unprintable(character) else character for character in stem)
    text = " ".join(text.split()) or "scene"
    return text if len(text) <= MAX_PROJECT_NAME else text[: MAX_PROJECT_NAME - 1].rstrip() + "…"


def first_unprintable(text: str) -> str | None:
    """The first character that no name on the wire may hold, as a person reads it."""
    found = next((character for character in text if is_unprintable(character)), None)
    if found is None:
        return None
    return f"the character U+{ord(found):04X} ({unicodedata.name(found, 'a control character').lower()})"


def one_line(text: str) -> str:
    """A name for a person: what would break the line is written as its number."""
    return "".join(f"\\u{ord(character):04x}" if is_unprintable(character) else character for character in text)


def _escaped(text: str) -> str:
    return "".join(_number(char) if char in _FORBIDDEN or is_unprintable(char) else char for char in text)


def _number(character: str) -> str:
    return f"_x{ord(character):x}_"
