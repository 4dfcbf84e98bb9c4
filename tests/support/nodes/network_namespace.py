"""One PC on a cable of its own: a network namespace that reaches this machine by a veth pair, and nothing else."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cable:
    """Both ends of it."""

    #: This machine's address on the cable.
    here: str
    namespace: str

    def command(self, *command: str) -> list[str]:
        """A command as the PC at the other end runs it."""
        return ["ip", "netns", "exec", self.namespace, *command]


def why_no_namespaces() -> str:
    """Why there can be none here; empty: there can."""
    if shutil.which("ip") is None:
        return "ip not found: install iproute2"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    name = f"sheepfold-{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=10)
    if made.returncode:
        return made.stderr.strip()
    subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10)
    return ""


@contextlib.contextmanager
def pc_on_a_cable() -> Iterator[Cable]:
    """The PC is gone when the block ends, with whatever still runs on it."""
    mark, subnet = secrets.token_hex(3), secrets.randbelow(250) + 1
    namespace, here = f"sheepfold-{mark}", f"10.79.{subnet}.1"
    _do("ip", "netns", "add", namespace)
    try:
        _do("ip", "link", "add", f"sf{mark}", "type", "veth", "peer", "name", "cable", "netns", namespace)
        _do("ip", "addr", "add", f"{here}/24", "dev", f"sf{mark}")
        _do("ip", "link", "set", f"sf{mark}", "up")
        _do("ip", "-n", namespace, "addr", "add", f"10.79.{subnet}.2/24", "dev", "cable")
        for device in ("lo", "cable"):
            _do("ip", "-n", namespace, "link", "set", device, "up")
        yield Cable(here=here, namespace=namespace)
    finally:
        pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, timeout=10).stdout
        for pid in pids.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=20)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
