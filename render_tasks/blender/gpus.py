"""Which GPUs a Blender could render with, asked of that Blender."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

#: Seconds: the first start of a Blender from a slow disk, with its GPU drivers, takes a while.
ASK_BLENDER_S = 120
_MARK = "sheepfold-gpu:"
_LIST_GPUS = f"""
import bpy
preferences = getattr(bpy.context, "preferences", None) or bpy.context.user_preferences
cycles = preferences.addons["cycles"].preferences
names = []
for kind in ("OPTIX", "CUDA", "HIP", "METAL", "ONEAPI", "OPENCL"):
    try:
        cycles.compute_device_type = kind
        if hasattr(cycles, "get_devices_for_type"):
            devices = cycles.get_devices_for_type(kind)
        else:
            devices = [device for group in cycles.get_devices() or () for device in group]
    except Exception:
        continue
    names += [device.name for device in devices if device.type == kind and device.name not in names]
for name in names:
    print("{_MARK}" + name)
"""


def list_gpus(blender: Path) -> tuple[str, ...]:
    """Names of the GPUs this Blender could render with; empty when it finds none or cannot be asked."""
    argv = [str(blender), "--factory-startup", "-b", "--python-expr", _LIST_GPUS]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=ASK_BLENDER_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("%s cannot be asked for GPUs: %s", blender.name, type(error).__name__)
        return ()
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return tuple(line.removeprefix(_MARK).strip() for line in lines if line.startswith(_MARK))
