"""A small LAN inside this machine: hosts in network namespaces, each on a cable of its own, one switch between them.

Every cable is shaped in both directions. The addresses exist inside the namespaces alone, the namespaces' names in this
run alone, and everything is gone when the ``with`` block ends, processes that were left in it included.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

#: Of the run's own little network.
NETWORK = "10.77.0"
#: Bytes that may leave at once: the largest bundle of packets the kernel hands on is 64 kB.
BURST = "128kb"
#: The longest a packet waits before the cable.
LATENCY = "40ms"
_GONE_WITHIN_S = 3.0


class NoNamespaces(Exception):
    """Network namespaces cannot be made here."""


def check_rights() -> None:
    """Raises NoNamespaces with the reason when this machine or user cannot lay cables."""
    if sys.platform != "linux":
        raise NoNamespaces("network namespaces are Linux' own")
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if missing:
        raise NoNamespaces(f"{' and '.join(missing)} not found: install iproute2")
    if os.geteuid() != 0:
        raise NoNamespaces("only root may make network namespaces: run it with sudo")
    name = f"sheepfold-{secrets.token_hex(3)}-probe"
    added = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=10)
    if added.returncode:
        raise NoNamespaces(f"no network namespaces here: {added.stderr.strip()}")
    subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10)


class SimulatedLan:
    """The switch, and the hosts that were plugged in. A context manager."""

    def __init__(self, mbit: int) -> None:
        self._mbit = mbit
        #: What the names of its namespaces begin with.
        self.run = f"sheepfold-{secrets.token_hex(3)}"
        self._names: list[str] = []
        self._hosts: dict[str, str] = {}

    def __enter__(self) -> SimulatedLan:
        check_rights()
        try:
            self._switch = self._namespace("switch")
            _do("ip", "-n", self._switch, "link", "add", "switch", "type", "bridge")
            _do("ip", "-n", self._switch, "link", "set", "switch", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(self._names):
            _end_processes_in(name)
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20)

    def plug_in(self, host: str) -> str:
        """Makes a host with its cable; its address."""
        name, address = self._namespace(host), f"{NETWORK}.{len(self._hosts) + 1}"
        port = f"port{len(self._hosts) + 1}"
        _do("ip", "-n", self._switch, "link", "add", port, "type", "veth", "peer", "name", "cable", "netns", name)
        _do("ip", "-n", self._switch, "link", "set", port, "master", "switch", "up")
        _do("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "cable")
        for device in ("lo", "cable"):
            _do("ip", "-n", name, "link", "set", device, "up")
        for where, device in ((name, "cable"), (self._switch, port)):
            shape = ("tbf", "rate", f"{self._mbit}mbit", "burst", BURST, "latency", LATENCY)
            _do("tc", "-n", where, "qdisc", "add", "dev", device, "root", *shape)
        self._hosts[host] = name
        return address

    def command_on(self, host: str, *command: str) -> list[str]:
        """The command as it is run on a host."""
        return ["ip", "netns", "exec", self._hosts[host], *command]

    def bytes_sent(self, host: str) -> int:
        """Bytes that left a host by its cable, headers included."""
        shown = _do("ip", "-n", self._hosts[host], "-s", "-j", "link", "show", "cable")
        stats: Any = json.loads(shown)[0]
        return int(stats["stats64"]["tx"]["bytes"])

    def _namespace(self, host: str) -> str:
        name = f"{self.run}-{host}"
        self._names.append(name)
        _do("ip", "netns", "add", name)
        return name


def _do(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise NoNamespaces(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _end_processes_in(namespace: str) -> None:
    """Nobody but this run puts processes in there."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        for pid in _processes_in(namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        _wait_until(lambda: not _processes_in(namespace), _GONE_WITHIN_S)


def _processes_in(namespace: str) -> Sequence[int]:
    found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, timeout=10)
    return [int(pid) for pid in found.stdout.split()]


def _wait_until(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
