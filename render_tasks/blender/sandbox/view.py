"""What one renderer is given of its PC. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .facts import HostFacts

#: Nodes of GPUs: Mesa's and ROCm's, NVIDIA's, Intel's compute.
_GPU = re.compile(r"/dev/(?:dri|kfd|nvidia\d+|nvidiactl|nvidia-modeset|nvidia-uvm|nvidia-uvm-tools|nvidia-caps|accel)")


@dataclass(frozen=True, kw_only=True)
class View:
    """Files and devices of one renderer, by the names they have outside."""

    #: Its own folder: home, temporary files, pictures. All that it may write.
    home: Path
    #: The system's, the renderer, the scene: read only.
    reads: tuple[Path, ...]
    #: Below ``/dev``, besides those of every process.
    devices: tuple[str, ...] = ()


def view_of(host: HostFacts, *, home: Path, reads: Iterable[Path], gpu: bool) -> View:
    """What a renderer is given that needs ``reads`` besides the system's files, and GPUs where its slot has them."""
    folders = (*host.folders, *host.gpu_folders) if gpu else host.folders
    return View(
        home=home,
        reads=(*folders, *(path for path in dict.fromkeys(reads) if not _is_in(path, folders))),
        devices=gpu_devices(host.devices) if gpu else (),
    )


def gpu_devices(devices: Iterable[str]) -> tuple[str, ...]:
    """Those of a PC's devices that a renderer computes with."""
    return tuple(device for device in devices if _GPU.fullmatch(device))


def _is_in(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
