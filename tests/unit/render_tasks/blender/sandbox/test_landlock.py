"""What the launcher is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from render_tasks.blender.sandbox.facts import HostFacts
from render_tasks.blender.sandbox.landlock import (
    IOCTL_DEVICE,
    MAKE_REGULAR,
    READ_FILE,
    REFER,
    TRUNCATE,
    WRITE_FILE,
    instructions,
)
from render_tasks.blender.sandbox.levels import RenderLimits
from render_tasks.blender.sandbox.view import View

HOST = HostFacts(system="linux", machine="x86_64", uid=1000, landlock=7, links=(("/lib", "usr/lib"),), open_files=4096)
VIEW = View(home=Path("/w/home"), reads=(Path("/usr"), Path("/w/scene")), devices=("/dev/dri",))
#: Links, pipes, sockets and devices are made with these.
MAKES_SPECIAL = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12


def ruleset(host: HostFacts = HOST) -> dict[str, Any]:
    return json.loads(instructions(host, VIEW, {"HOME": "/w/home"}, RenderLimits(disk_bytes=7), ["/r/rend.exe", "-b"]))


def rights_by_path(host: HostFacts = HOST) -> dict[str, int]:
    return dict(ruleset(host)["rules"])


def test_only_the_home_and_null_may_be_written() -> None:
    assert {path for path, given in rights_by_path().items() if given & WRITE_FILE} == {
        "/w/home",
        "/dev/null",
        "/dev/dri",
    }
    assert {path for path, given in rights_by_path().items() if given & MAKE_REGULAR} == {"/w/home"}


def test_no_link_pipe_or_device_is_made_anywhere() -> None:
    assert not [path for path, given in rights_by_path().items() if given & MAKES_SPECIAL]


def test_the_scene_and_the_system_may_be_read() -> None:
    for path in ("/usr", "/w/scene", "/usr/lib", "/dev/urandom"):
        assert rights_by_path()[path] & READ_FILE
    assert not [path for path in rights_by_path() if path in ("/", "/proc", "/etc", "/home", "/tmp", "/w")]


def test_each_version_is_asked_for_what_it_knows() -> None:
    assert [len(ruleset(replace(HOST, landlock=version))["attributes"]) for version in (1, 3, 4, 6, 9)] == [
        1,
        1,
        2,
        3,
        3,
    ]
    assert not rights_by_path(replace(HOST, landlock=1))["/w/home"] & (REFER | TRUNCATE | IOCTL_DEVICE)
    assert rights_by_path(replace(HOST, landlock=3))["/w/home"] & TRUNCATE
    assert ruleset(replace(HOST, landlock=1))["attributes"] == [(1 << 13) - 1]


def test_limits_and_the_command_line_are_told() -> None:
    assert ruleset()["argv"] == ["/r/rend.exe", "-b"]
    assert ruleset()["limits"] == {"CORE": 0, "FSIZE": 7, "NOFILE": 4096}
    assert ruleset()["environment"] == {"HOME": "/w/home"}
