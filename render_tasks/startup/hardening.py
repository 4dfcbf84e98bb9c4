"""What a worker sees to before it takes a frame: who it is, what others can read of it, and what keeps renderers in."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import urlsplit

from render_tasks.blender.installed import starts_in
from render_tasks.blender.sandbox.facts import look_at_host
from render_tasks.blender.sandbox.levels import Level, limits_on
from render_tasks.blender.sandbox.probe import find_sandbox
from render_tasks.blender.sandbox.sandbox import Sandbox
from render_tasks.blender.sandbox.task_groups import remove_old_groups
from render_tasks.errors import RunsAsRoot
from render_tasks.settings import SandboxChoice, WorkerSettings
from sheepfold.config import is_loopback
from sheepfold.tls.errors import PlainRefused

log = logging.getLogger(__name__)

TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "SHEEPFOLD_FARM_TOKEN", "SHEEPFOLD_FARM_TOKEN_FILE"
_SET_DUMPABLE = 4
#: In ``/proc/self/stat``, counted from the state on: where the environment begins and ends that the process came with.
_ENVIRONMENT_FROM, _ENVIRONMENT_TO = 47, 48


def refuse_unsafe(settings: WorkerSettings) -> None:
    """Raises RunsAsRoot or PlainRefused for what the settings do not allow."""
    refuse_root(settings)
    refuse_plain(settings)


def refuse_root(settings: WorkerSettings) -> None:
    """Raises RunsAsRoot, unless the settings allow it."""
    if _is_root() and not settings.allow_root:
        raise RunsAsRoot


def refuse_plain(settings: WorkerSettings) -> None:
    """Raises PlainRefused where the farm token would cross the network readable, unless the settings allow it."""
    parts = urlsplit(settings.coordinator_url)
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return
    if not settings.allow_plain:
        raise PlainRefused("SHEEPFOLD_COORDINATOR_URL", settings.coordinator_url)
    log.warning(
        "SHEEPFOLD_ALLOW_PLAIN: %s is plain HTTP, and whoever is on the way reads the farm token and the frames",
        settings.coordinator_url,
    )


def hide_token() -> None:
    """Takes the farm token out of the environment, and lets no other process of this user look into this one (Linux).

    Elsewhere nothing is done. What reads the settings again needs :func:`environment_with_token`.
    """
    if sys.platform != "linux":
        return
    if token := os.environ.pop(TOKEN_VARIABLE, ""):
        _overwrite(f"{TOKEN_VARIABLE}={token}".encode())
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def environment_with_token(token: str) -> dict[str, str]:
    """The environment for starting this program anew in the same process, after :func:`hide_token`."""
    environment: MutableMapping[str, str] = dict(os.environ)
    if token and sys.platform == "linux":
        # In memory, under a number that the program keeps over its exec.
        kept = os.memfd_create("token", 0)
        os.write(kept, token.encode("utf-8"))
        environment[TOKEN_FILE_VARIABLE] = f"/proc/self/fd/{kept}"
    return dict(environment)


def choose_sandbox(settings: WorkerSettings) -> Sandbox:
    """The best sandbox that works here. Raises NoSandbox where the settings ask for one and there is none."""
    return sandbox_for(settings.sandbox, settings.sandbox_reads, int(settings.scratch_gb * 1024**3))


def sandbox_for(
    choice: SandboxChoice = SandboxChoice.REQUIRED, reads: tuple[Path, ...] = (), disk_bytes: int = 1024**3
) -> Sandbox:
    """The same, for what a person chose. Raises NoSandbox."""
    host = look_at_host()
    if host.task_groups:
        remove_old_groups(host.task_groups)
    return find_sandbox(choice, host, limits_on(host.cpus, disk_bytes), reads=reads, starts_blender=starts_in)


def tell_protection(sandbox: Sandbox) -> None:
    """The log says what keeps renderers in, and what would be safer."""
    if _is_root():
        log.warning("this worker runs as root, as SHEEPFOLD_ALLOW_ROOT says: a user of its own would be safer")
    if sandbox.level is Level.NONE:
        why = sandbox.why_not_better or "SHEEPFOLD_SANDBOX is off"
        log.warning("renderers run without a sandbox, with all rights of this user: %s", why)
    elif sandbox.why_not_better:
        log.info("renderers are kept in by %s (not better: %s)", sandbox.level.value, sandbox.why_not_better)
    else:
        log.info("renderers are kept in by %s", sandbox.level.value)


def _is_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def _overwrite(text: bytes) -> None:
    """Where the kernel shows the environment that this process came with."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    begin, end = int(fields[_ENVIRONMENT_FROM]), int(fields[_ENVIRONMENT_TO])
    place = ctypes.string_at(begin, end - begin).find(text + b"\0") if begin else -1
    if place >= 0:
        name = text.partition(b"=")[0] + b"="
        ctypes.memset(begin + place + len(name), ord("*"), len(text) - len(name))
