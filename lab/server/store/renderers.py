"""The renderer archives a server gives, one per platform.

A studio gives real ones: a zip that holds ``rend.exe`` (Windows, Linux) or ``Blender/blender.app`` (Mac). Where it
gives none, Linux and Mac get a *launcher*: a zip of one small shell script that starts the Blender of the PC it runs
on. Its bytes are always the same, so its MD5 is too, and every client keeps it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import BadInput
from sheepfold.digests import file_md5

from .database import Store

#: Where a client looks for the renderer inside the archive.
BINARY_PATHS = {"linux": "rend.exe", "mac": "Blender/blender.app/Contents/MacOS/blender", "windows": "rend.exe"}
LAUNCHED = ("linux/64bit", "linux/32bit", "mac/64bit")
LAUNCHER = b"""#!/bin/sh
# Starts the Blender of this computer: $SHEEPFOLD_BLENDER, or the one on PATH.
exec "${SHEEPFOLD_BLENDER:-blender}" "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """An archive that clients of one platform are told to download."""

    path: Path
    #: Lower-case hex.
    md5: str


def gather_renderers(store: Store, given: Mapping[str, Path]) -> dict[str, Renderer]:
    """The archive of every platform that has one; raises :class:`BadInput` naming a given one that is unusable."""
    renderers = {platform: _checked(platform, path) for platform, path in given.items()}
    for platform in LAUNCHED:
        if platform not in renderers:
            path = store.renderer(platform)
            path.write_bytes(launcher(platform))
            renderers[platform] = Renderer(path=path, md5=file_md5(path))
    return renderers


def launcher(platform: str) -> bytes:
    """The launcher archive of a platform, the same bytes every time."""
    entry = zipfile.ZipInfo(BINARY_PATHS[platform.partition("/")[0]], date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # Unix: the upper half of external_attr is the mode
    entry.external_attr = 0o100755 << 16
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(entry, LAUNCHER)
    return target.getvalue()


def _checked(platform: str, path: Path) -> Renderer:
    binary = BINARY_PATHS[platform.partition("/")[0]]
    try:
        with zipfile.ZipFile(path) as archive:
            if binary not in archive.namelist():
                raise BadInput(f"SHEEPFOLD_RENDERERS: {path} for {platform} holds no {binary}")
        return Renderer(path=path, md5=file_md5(path))
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise BadInput(f"SHEEPFOLD_RENDERERS: {path} for {platform} is no usable zip: {error}") from None
