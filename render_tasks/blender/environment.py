"""What a renderer finds around it: its binary, its own folders, and of our environment only what is named here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from .orphan_guard import MARK_VARIABLE

#: Blender's user folders, each with its variable; they lie in the scratch folder.
USER_FOLDERS = ("config", "scripts", "datafiles", "extensions", "resources")

#: The language, the time zone, and where programs are.
_SYSTEM = frozenset({"PATH", "LANG", "LANGUAGE", "TZ"})
#: Which GPUs and how many threads may be used.
_DEVICES = frozenset({
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
    "ONEAPI_DEVICE_SELECTOR", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "OMP_NUM_THREADS",
})  # fmt: skip
#: Where a studio keeps its colours and shared libraries.
_STUDIO = frozenset({"OCIO", "LD_LIBRARY_PATH"})
#: No program starts on Windows without them.
_WINDOWS = frozenset({
    "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE",
    "PROCESSOR_IDENTIFIER", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)", "COMMONPROGRAMFILES",
})  # fmt: skip
#: Everything else of ours stays here.
PASSED_ON = _SYSTEM | _DEVICES | _STUDIO | _WINDOWS | {"SHEEPFOLD_BLENDER"}
_PASSED_ON_PREFIX = "LC_"
#: Where programs look for a user's files: all of it is the scratch folder.
_HOMES = ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA")


def renderer_binary(folder: Path, system: str = sys.platform) -> Path:
    """The binary inside an unpacked renderer archive."""
    if system == "darwin":
        return folder / "Blender" / "blender.app" / "Contents" / "MacOS" / "blender"
    return folder / "rend.exe"


def environment(renderer: Path, scratch: Path, mark: str, ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The renderer's environment: what of ``ours`` is passed on, its own folders in ``scratch``, and its mark."""
    env = {name: value for name, value in ours.items() if is_passed_on(name)}
    # Pointing BLENDER_SYSTEM_* into the scratch folder would take the renderer's own add-ons away, Cycles included:
    # only the user's folders are moved.
    for name in USER_FOLDERS:
        env[f"BLENDER_USER_{name.upper()}"] = str(scratch / name)
    for name in ("TMPDIR", "TEMP", "TMP"):
        env[name] = str(scratch / "tmp")
    for name in _HOMES:
        env[name] = str(scratch)
    if "PATH" in env:
        env["PATH"] = _without_our_programs(env["PATH"])
    if sys.platform == "linux":
        env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(renderer / "lib"), env.get("LD_LIBRARY_PATH")]))
    env[MARK_VARIABLE] = mark
    return env


def _without_our_programs(path: str) -> str:
    """Blender's Python takes a virtual environment on PATH for its own, and may not read ours in the sandbox."""
    ours = str(Path(sys.prefix, "Scripts" if sys.platform == "win32" else "bin"))
    entries = path.split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if sys.prefix == sys.base_prefix or entry != ours)


def is_passed_on(name: str) -> bool:
    """Whether a renderer gets this variable of ours."""
    return name.upper() in PASSED_ON or name.upper().startswith(_PASSED_ON_PREFIX)
