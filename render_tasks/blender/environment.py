"""What a renderer finds around it: its binary, its own user folders, and none of the farm's secrets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from .orphan_guard import MARK_VARIABLE

#: Blender's user folders, each with its variable; they lie in the scratch folder.
USER_FOLDERS = ("config", "scripts", "datafiles", "extensions", "resources")

#: What a renderer may know of our settings: where Blender is, for renderer archives that only launch it.
_PASSED_ON = frozenset({"SHEEPFOLD_BLENDER"})
_OURS = re.compile(
    r"^(SHEEPFOLD|CELERY|FLOWER|REDIS)_|PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_KEY", re.I
)


def renderer_binary(folder: Path, system: str = sys.platform) -> Path:
    """The binary inside an unpacked renderer archive."""
    if system == "darwin":
        return folder / "Blender" / "blender.app" / "Contents" / "MacOS" / "blender"
    return folder / "rend.exe"


def environment(renderer: Path, scratch: Path, mark: str, ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The renderer's environment: ``ours`` without secrets, with its own folders below ``scratch`` and its mark."""
    env = {name: value for name, value in ours.items() if name in _PASSED_ON or not _OURS.search(name)}
    # An inherited BLENDER_SYSTEM_* would put another installation's add-ons under this renderer, and pointing them into
    # the scratch folder would take its own away, Cycles included: only the user's folders are moved.
    env = {name: value for name, value in env.items() if not name.startswith("BLENDER_")}
    for name in USER_FOLDERS:
        env[f"BLENDER_USER_{name.upper()}"] = str(scratch / name)
    for name in ("TMPDIR", "TEMP", "TMP"):
        env[name] = str(scratch / "tmp")
    if sys.platform == "linux":
        env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(renderer / "lib"), env.get("LD_LIBRARY_PATH")]))
    env[MARK_VARIABLE] = mark
    return env
