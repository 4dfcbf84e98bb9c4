"""What this PC has to build a sandbox from: asked once, when the worker begins."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .task_groups import find_groups

#: What programs of the system need to start. Nothing in there is private.
SYSTEM_FOLDERS = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store",
    "/etc/alternatives", "/etc/ld.so.cache", "/etc/fonts", "/etc/localtime",
    "/sys/devices/system/cpu", "/sys/devices/system/node",
)  # fmt: skip
#: What drivers of GPUs read besides.
GPU_FOLDERS = (
    "/etc/OpenCL", "/etc/vulkan", "/opt/rocm", "/opt/intel", "/sys/dev/char", "/sys/devices",
    "/sys/bus/pci", "/sys/class/drm", "/sys/class/kfd", "/sys/module/nvidia",
)  # fmt: skip
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What this PC has to build a sandbox from; read once, at the worker's start."""

    #: As :data:`sys.platform` has it.
    system: str
    #: ``x86_64``, ``aarch64``, ...
    machine: str
    #: Of the worker; 0 is root.
    uid: int
    #: Full paths of the programs; empty: not installed.
    bwrap: str = ""
    nice: str = ""
    choom: str = ""
    prlimit: str = ""
    #: Version of Landlock in the kernel; 0: none.
    landlock: int = 0
    #: Links right below ``/`` with what they lead to: ``("/lib", "usr/lib")``.
    links: tuple[tuple[str, str], ...] = ()
    #: Those of :data:`SYSTEM_FOLDERS` that are there and no links.
    folders: tuple[Path, ...] = ()
    #: The same of :data:`GPU_FOLDERS`.
    gpu_folders: tuple[Path, ...] = ()
    #: Paths below ``/dev``.
    devices: tuple[str, ...] = ()
    #: Where groups can be made that count a renderer's tasks (:mod:`.task_groups`); only root needs them.
    task_groups: Path | None = None
    #: Threads of this PC.
    cpus: int = 1
    #: Most files that a process may open here.
    open_files: int = 1024


def look_at_host() -> HostFacts:
    """What this PC has; takes a few milliseconds and starts nothing."""
    found = [Path(path) for path in SYSTEM_FOLDERS if Path(path).exists()]
    links = [path for path in found if path.is_symlink() and path.parent == Path("/")]
    return HostFacts(
        system=sys.platform,
        machine=platform.machine(),
        uid=os.geteuid() if os.name == "posix" else -1,
        bwrap=shutil.which("bwrap") or "",
        nice=shutil.which("nice") or "",
        choom=shutil.which("choom") or "",
        prlimit=shutil.which("prlimit") or "",
        landlock=_landlock_version(),
        links=tuple((str(path), str(path.readlink())) for path in links),
        folders=tuple(path for path in found if path not in links),
        gpu_folders=tuple(Path(path) for path in GPU_FOLDERS if Path(path).exists()),
        devices=_devices(),
        task_groups=find_groups(),
        cpus=os.cpu_count() or 1,
        open_files=_open_files(),
    )


def _landlock_version() -> int:
    if sys.platform != "linux":
        return 0
    version = ctypes.CDLL(None, use_errno=True).syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    return max(0, int(version))


def _devices() -> tuple[str, ...]:
    if sys.platform != "linux":
        return ()
    return tuple(sorted(str(path) for path in Path("/dev").iterdir()))


def _open_files() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**31 - 1 if hard == resource.RLIM_INFINITY else hard
