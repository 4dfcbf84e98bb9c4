"""What this PC is made of, as a session describes it and placement needs it."""

from __future__ import annotations

import logging
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from .contract import NodeHardware

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
            devices = [one for group in cycles.get_devices() or () for one in group]
    except Exception:
        continue
    names += [one.name for one in devices if one.type == kind and one.name not in names]
for name in names:
    print("{_MARK}" + name)
"""


def detect(gpus: tuple[str, ...] = ()) -> NodeHardware:
    """This PC; what the system does not tell is ``unknown``, never an error."""
    cpu = _cpu()
    return NodeHardware(
        os={"win32": "windows", "darwin": "mac"}.get(sys.platform, "linux"),
        bits="64bit" if sys.maxsize > 2**32 else "32bit",
        cpu_family=str(cpu.get("family") or "unknown"),
        cpu_model=str(cpu.get("model") or "unknown"),
        cpu_model_name=str(cpu.get("brand_raw") or platform.processor() or platform.machine() or "unknown"),
        cpu_cores=usable_threads(),
        ram=usable_ram(),
        gpus=gpus,
        os_version=_os_version(),
    )


def _os_version() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # not a Linux, or one that does not say
        return platform.platform(terse=True)


def usable_threads() -> int:
    """Threads this process may really use: affinity and a container's CPU quota taken into account."""
    try:
        threads = len(os.sched_getaffinity(0))  # not on Windows and macOS
    except AttributeError:
        threads = os.cpu_count() or 1
    quota = _cgroup_number("cpu.max")
    return max(1, min(threads, math.ceil(quota) if quota else threads))


def usable_ram() -> int:
    """Bytes of memory this process may use: the machine's, or its container's limit."""
    limit = _cgroup_number("memory.max")
    total = psutil.virtual_memory().total
    return int(min(total, limit)) if limit else total


def _cgroup_number(name: str) -> float | None:
    """A container's limit (cgroup v2): ``cpu.max`` in CPUs, ``memory.max`` in bytes; ``None`` where there is none."""
    try:
        words = Path("/sys/fs/cgroup", name).read_text().split()
        number = float(words[0])  # "max" is no number: no limit
        return number / float(words[1]) if len(words) > 1 else number
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        return None


def _cpu() -> dict[str, Any]:
    try:
        import cpuinfo

        return cpuinfo.get_cpu_info() or {}
    except Exception as error:  # py-cpuinfo asks a dozen system tools; none of them may keep a PC out of the farm
        log.warning("py-cpuinfo cannot tell this CPU: %s", type(error).__name__)
        return {}


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
