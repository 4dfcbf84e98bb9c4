"""What a renderer is given of its PC."""

from __future__ import annotations

from pathlib import Path

import pytest

from render_tasks.blender.sandbox.facts import HostFacts
from render_tasks.blender.sandbox.view import gpu_devices, view_of

HOST = HostFacts(
    system="linux",
    machine="x86_64",
    uid=1000,
    folders=(Path("/usr"), Path("/etc/fonts")),
    gpu_folders=(Path("/etc/OpenCL"),),
    devices=("/dev/dri", "/dev/nvidia0", "/dev/sda"),
)


def test_a_slot_without_gpus_sees_none_of_them() -> None:
    view = view_of(HOST, home=Path("/w/scratch/a"), reads=[Path("/w/archives/r"), Path("/w/archives/s")], gpu=False)
    assert view.devices == ()
    assert view.reads == (Path("/usr"), Path("/etc/fonts"), Path("/w/archives/r"), Path("/w/archives/s"))


def test_a_slot_with_gpus_sees_them_and_what_their_drivers_read() -> None:
    view = view_of(HOST, home=Path("/w/scratch/a"), reads=[], gpu=True)
    assert view.devices == ("/dev/dri", "/dev/nvidia0")
    assert Path("/etc/OpenCL") in view.reads


def test_what_the_system_has_already_is_not_given_twice() -> None:
    view = view_of(HOST, home=Path("/h"), reads=[Path("/usr/lib/blender"), Path("/r"), Path("/r")], gpu=False)
    assert view.reads == (Path("/usr"), Path("/etc/fonts"), Path("/r"))


@pytest.mark.parametrize(
    ("device", "is_gpu"),
    [
        ("/dev/dri", True), ("/dev/kfd", True), ("/dev/nvidia0", True), ("/dev/nvidia12", True),
        ("/dev/nvidiactl", True), ("/dev/nvidia-uvm", True), ("/dev/nvidia-caps", True),
        ("/dev/kvm", False), ("/dev/sda", False), ("/dev/mem", False), ("/dev/fuse", False), ("/dev/input", False),
        ("/dev/nvidia0x", False), ("/dev/video0", False),
    ],
)  # fmt: skip
def test_only_devices_that_compute_are_given(device: str, is_gpu: bool) -> None:
    assert gpu_devices([device]) == ((device,) if is_gpu else ())
