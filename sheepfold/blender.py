"""The Blender of this PC: ``$SHEEPFOLD_BLENDER``, else the one on PATH; and the version that it tells."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

SETTING = "SHEEPFOLD_BLENDER"
#: Blender says its version in a third of a second; a first start from a slow disk that is busy takes much longer.
ASK_WITHIN_S = 30.0
_VERSION = re.compile(rb"^Blender (\d+\.\d+(?:\.\d+)?)", re.MULTILINE)


def wanted_blender() -> str:
    """The program that is looked for: a path, or a name on PATH."""
    return os.environ.get(SETTING) or "blender"


def find_blender() -> Path | None:
    """An absolute path; ``None`` where there is no such program. :func:`why_not_found` says what to do then."""
    found = shutil.which(wanted_blender())
    return Path(found).absolute() if found else None


def why_not_found() -> str:
    """What an operator is told where :func:`find_blender` finds none: one line."""
    if os.environ.get(SETTING):
        return f"{SETTING}: {wanted_blender()} is no program on this PC"
    return f"no blender on PATH: install one, or let {SETTING} name it"


def ask_version(path: Path) -> str:
    """What the program says of its version, ``3.4.1``; empty where it is no Blender, or gives no answer in time."""
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_WITHIN_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.info("%s cannot be asked for its version: %s", path, type(error).__name__)
        return ""
    return version_in(done.stdout)


def version_in(said: bytes) -> str:
    """The version in what ``blender --version`` printed; empty where it names none."""
    found = _VERSION.search(said)
    return found[1].decode("ascii") if found else ""
