"""What :mod:`render_tasks.blender.sandbox.launcher` is told: the view as Landlock's rules, and the rest. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from .facts import HostFacts
from .levels import RenderLimits
from .seccomp import program, refusals
from .view import View

#: Bits of ``struct landlock_path_beneath_attr``.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REGULAR = 1 << 4, 1 << 5, 1 << 7, 1 << 8
#: Names that move between folders, from version 2; files that shrink, from 3; commands to devices, from 5.
REFER, TRUNCATE, IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
#: All rights that a version knows: whatever is not given is refused.
_ALL_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
#: From version 4: to bind and to connect TCP. From 6: abstract sockets and signals of others.
_ALL_NETWORK, _KNOWS_NETWORK = 0b11, 4
_ALL_SCOPES, _KNOWS_SCOPES = 0b11, 6

_READ = EXECUTE | READ_FILE | READ_DIR
#: No links, pipes, sockets or devices.
_OWN = (
    _READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REGULAR | REFER | TRUNCATE | IOCTL_DEVICE
)  # fmt: skip
_DEVICE = READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEVICE
#: What every process finds below /dev and /proc, and may have.
_READABLE = (
    "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/proc/filesystems", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/osrelease",
)  # fmt: skip
_NULL = "/dev/null"


def instructions(
    host: HostFacts, view: View, environment: Mapping[str, str], limits: RenderLimits, argv: Sequence[str]
) -> str:
    """The launcher's one argument. Raises KeyError for a machine whose system calls are not known here."""
    return json.dumps(
        {
            "argv": list(argv),
            "environment": dict(environment),
            "folder": str(view.home),
            "attributes": _attributes(host.landlock),
            "rules": _rules(host, view),
            "filter": program(refusals(host.landlock), host.machine),
            "limits": {
                "CORE": 0,
                "FSIZE": limits.disk_bytes,
                "NOFILE": min(limits.open_files, host.open_files),
            },
            "tasks": limits.tasks,
        }
    )


def _attributes(version: int) -> list[int]:
    """``struct landlock_ruleset_attr``, as long as this version knows it."""
    attributes = [_all_files(version)]
    if version >= _KNOWS_NETWORK:
        attributes.append(_ALL_NETWORK)
    if version >= _KNOWS_SCOPES:
        attributes.append(_ALL_SCOPES)
    return attributes


def _all_files(version: int) -> int:
    return _ALL_FILES[min(version, max(_ALL_FILES))]


def _rules(host: HostFacts, view: View) -> list[tuple[str, int]]:
    """Path and rights."""
    known = _all_files(host.landlock)
    rules = [(path, READ_FILE) for path in _READABLE]
    rules += [(_NULL, READ_FILE | WRITE_FILE)]
    # A link's own name needs no right, what it leads to does; where it is no link it is a folder of its own.
    rules += [(str(path), _READ) for path in view.reads]
    rules += [(str(Path("/") / target), _READ) for _, target in host.links]
    rules += [(device, _DEVICE & known) for device in view.devices]
    rules += [(str(view.home), _OWN & known)]
    return rules
