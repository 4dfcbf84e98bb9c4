"""What this PC is made of, as a session describes it and placement needs it."""

from __future__ import annotations

import logging
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil

from sheepfold.contract.presence import NodeHardware

log = logging.getLogger(__name__)


def detect(gpus: tuple[str, ...] = ()) -> NodeHardware:
    """This PC; what the system does not tell is ``unknown``, never an error."""
    cpu = _cpu()
    return NodeHardware(
        os={"win32": "windows", "darwin": "mac"}.get(sys.platform, "linux"),
        bits="64bit" if sys.maxsize > 2**32 else "32bit",
        cpu_family=_short(cpu.get("family")),
        cpu_model=_short(cpu.get("model")),
        cpu_model_name=_short(cpu.get("brand_raw") or platform.processor() or platform.machine()),
        cpu_cores=usable_threads(),
        ram=usable_ram(),
        gpus=tuple(map(_short, gpus[:64])),
        os_version=_short(_os_version()),
    )


def _short(said: object) -> str:
    """What a system says of itself, as long as a record may hold."""
    return str(said or "unknown")[:256]


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
