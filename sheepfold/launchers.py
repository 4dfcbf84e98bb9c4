"""Renderer archives that hold no Blender: one small script that starts the Blender of the PC it runs on.

Pure but for reading. Such an archive may only go to a PC that has a Blender. It is recognised by what it is: its only
file is a short shell script that names ``SHEEPFOLD_BLENDER``. An archive that holds anything else brings its renderer
along.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

#: A script that only starts something is far shorter.
MAX_SCRIPT_BYTES = 4096
_NAMES = b"SHEEPFOLD_BLENDER"


def is_launcher_script(text: bytes) -> bool:
    """Whether this is a script that starts the Blender of its PC."""
    return len(text) <= MAX_SCRIPT_BYTES and text.startswith(b"#!") and _NAMES in text


def is_launcher_archive(path: Path) -> bool:
    """Whether a renderer archive, as a zip, is a launcher; false for what cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(files) != 1 or files[0].file_size > MAX_SCRIPT_BYTES:
                return False
            return is_launcher_script(archive.read(files[0]))
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError):
        return False


def is_launcher(binary: Path) -> bool:
    """The same question about an unpacked renderer."""
    try:
        with binary.open("rb") as file:
            return is_launcher_script(file.read(MAX_SCRIPT_BYTES + 1))
    except OSError:
        return False
