"""Finds the best sandbox that works on this PC, by running something in it.

A program is asked to read a file that it must not see and to write one that it may; a level that lets it do the first,
or does not let it do the second, is none. Where the PC has a Blender, it is asked for its version in there.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from render_tasks.errors import NoSandbox
from render_tasks.settings import SandboxChoice

from .facts import HostFacts
from .levels import Level, RenderLimits, levels_of
from .sandbox import Sandbox
from .seccomp import AUDIT_ARCH

log = logging.getLogger(__name__)

#: A sandbox is made in hundredths of a second; a PC that has just started may need longer.
PROBE_S = 20.0
_MAY, _MUST_NOT = "may", "must not"
#: Arguments: the file that may be written, the one that must not be seen.
_PROBE = f'echo {_MAY} > "$1" && if cat "$2" 2>/dev/null; then echo it can read what it {_MUST_NOT}; exit 3; fi'
_HOW_TO = {
    Level.BUBBLEWRAP: "install bubblewrap (Debian and Ubuntu: apt-get install bubblewrap)",
    Level.LANDLOCK: "start a Linux with Landlock (5.13 or later, lsm=landlock)",
}


def find_sandbox(
    choice: SandboxChoice,
    host: HostFacts,
    limits: RenderLimits,
    *,
    reads: tuple[Path, ...] = (),
    starts_blender: Callable[[Sandbox], bool] = lambda _: True,
) -> Sandbox:
    """The best sandbox that will do and works, preferably one in which ``starts_blender``.

    Raises NoSandbox where none works.
    """
    reasons: list[str] = []
    without_blender: Sandbox | None = None
    for level in levels_of(choice):
        found = Sandbox(level=level, host=host, limits=limits, reads=reads, why_not_better="; ".join(reasons))
        if reason := why_not(found):
            reasons.append(f"{level.value}: {reason}")
        elif starts_blender(found):
            return found
        else:
            reasons.append(f"{level.value}: Blender does not start in it: name its folders in SHEEPFOLD_SANDBOX_READS")
            without_blender = without_blender or found
    if without_blender:
        return replace(without_blender, why_not_better="; ".join(reasons))
    raise NoSandbox("; ".join(reasons))


def why_not(sandbox: Sandbox) -> str:
    """Why this sandbox does not work here, and what to do about it; empty: it was tried and works."""
    host = sandbox.host
    if sandbox.level is Level.NONE:
        return ""
    if host.system != "linux":
        return "there is none for this system"
    if host.machine not in AUDIT_ARCH:
        return f"not known for {host.machine}"
    if sandbox.level is Level.BUBBLEWRAP and not host.bwrap:
        return f"not installed: {_HOW_TO[sandbox.level]}"
    if sandbox.level is Level.LANDLOCK and not host.landlock:
        return f"not in this kernel: {_HOW_TO[sandbox.level]}"
    with tempfile.TemporaryDirectory(prefix="sheepfold-probe-") as folder:
        return _tried(sandbox, Path(folder))


def _tried(sandbox: Sandbox, folder: Path) -> str:
    home, forbidden = folder / "home", folder / _MUST_NOT
    home.mkdir()
    forbidden.write_text(f"{_MUST_NOT}\n")
    written = home / _MAY
    argv = ["/bin/sh", "-c", _PROBE, "sh", str(written), str(forbidden)]
    said = run_in(sandbox, argv, home)
    if said is None:
        return f"no answer within {PROBE_S:.0f} s"
    if written.is_file() and _MUST_NOT not in said:
        return ""
    return said.strip().splitlines()[-1][:200] if said.strip() else "it does not run"


def run_in(sandbox: Sandbox, argv: list[str], home: Path, *, timeout_s: float = PROBE_S) -> str | None:
    """What a program says that is run in a sandbox with ``home`` for its folder; ``None``: it did not end in time."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home)}
    try:
        with sandbox.start(argv, sandbox.view(home, (), gpu=False), environment) as start:
            done = subprocess.run(
                start.argv, env=start.environment, pass_fds=start.descriptors, cwd=home, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s, check=False,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        return error.strerror or type(error).__name__
    return done.stdout.decode("utf-8", "replace")
