"""Renderer archives that hold no Blender: one small script that starts the Blender of the PC it runs on.

Pure but for reading. Such an archive may only go to a PC that has a Blender. It is recognised by what it is: its only
file is a short shell script that names ``SHEEPFOLD_BLENDER``. An archive that holds anything else brings its renderer
along.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from .zips import trouble_with_method, trouble_with_table

#: A script that only starts something is far shorter.
MAX_SCRIPT_BYTES = 4096
_NAMES = b"SHEEPFOLD_BLENDER"


def is_launcher_script(text: bytes) -> bool:
    """Whether this is a script that starts the Blender of its PC."""
    return len(text) <= MAX_SCRIPT_BYTES and text.startswith(b"#!") and _NAMES in text


def is_launcher_archive(path: Path) -> bool:
    """Whether a renderer archive, as a zip, is a launcher; false for what cannot be read."""
    try:
        with path.open("rb") as file:
            return not trouble_with_table(file) and _holds_a_launcher(file)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, ArithmeticError):
        return False
    except (zlib.error, struct.error):
        return False


def _holds_a_launcher(file: BinaryIO) -> bool:
    with zipfile.ZipFile(file) as archive:
        files = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(files) != 1 or files[0].file_size > MAX_SCRIPT_BYTES or trouble_with_method(files[0].compress_type):
            return False
        return is_launcher_script(archive.read(files[0]))


def is_launcher(binary: Path) -> bool:
    """The same question about an unpacked renderer, whose folder holds this binary and nothing else."""
    try:
        with binary.open("rb") as file:
            if not is_launcher_script(file.read(MAX_SCRIPT_BYTES + 1)):
                return False
        return all(path == binary or path.is_dir() for path in binary.parent.rglob("*"))
    except OSError:
        return False
