"""The version of the Blender that was found, as the program itself prints it."""

from __future__ import annotations

import re
import subprocess

from lab.errors import NoBlender

#: It only says its version and ends; a first start from a slow disk takes seconds.
VERSION_LIMIT_S = 60
_VERSION = re.compile(rb"^Blender (\d+)\.(\d+)", re.MULTILINE)


def version_of(blender: str) -> tuple[int, int]:
    """What ``blender --version`` says, (3, 4); raises :class:`~lab.errors.NoBlender`."""
    try:
        ended = subprocess.run(
            [blender, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=VERSION_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoBlender(f"{blender} does not tell its version: {type(error).__name__}") from None
    found = _VERSION.search(ended.stdout)
    if found is None:
        raise NoBlender(f"{blender} is no Blender: it does not tell its version (exit code {ended.returncode})")
    return int(found[1]), int(found[2])
