"""A whole farm as real processes: the installed command, a real Redis, real HTTP. Everything ends with the context."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from coordinator.broker.redis_probe import COORDINATOR_USER

SHEEPFOLD = str(Path(sys.executable).with_name("sheepfold"))
#: Every command promises to be gone this long after SIGTERM.
STOPS_WITHIN_S = 10


def free_port() -> int:
    """A port nobody listens on right now, and that the system gives to no connection in the meantime."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(15_000, 32_000)))
            return probe.getsockname()[1]


def wait_for(what: str, condition: Callable[[], Any], within_s: float) -> Any:
    """Polls until the condition holds; its value. Fails with ``what`` when it does not in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {within_s} s")


class RunningFarm:
    """Addresses, credentials and processes of one farm."""

    def __init__(self, folder: Path, *, password: str | None = None, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.login, self.password = "lab", password or secrets.token_urlsafe(12)
        self.farm_token = secrets.token_urlsafe(16)
        self.server_url = f"http://127.0.0.1:{free_port()}"
        self.coordinator_url = f"http://127.0.0.1:{free_port()}"
        self.extra = environment or {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, **more: str) -> dict[str, str]:
        """What every process of the farm is told."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SHEEPFOLD_")}
        own = {
            "SHEEPFOLD_SERVER_URL": self.server_url,
            "SHEEPFOLD_SERVER_HOST": "127.0.0.1",
            "SHEEPFOLD_SERVER_PORT": self.server_url.rpartition(":")[2],
            "SHEEPFOLD_SERVER_DIR": str(self.folder / "server"),
            "SHEEPFOLD_LOGIN": self.login,
            "SHEEPFOLD_PASSWORD": self.password,
            "SHEEPFOLD_STATE_DIR": str(self.folder / "coordinator"),
            "SHEEPFOLD_PORT": self.coordinator_url.rpartition(":")[2],
            "SHEEPFOLD_COORDINATOR_URL": self.coordinator_url,
            "SHEEPFOLD_FARM_TOKEN": self.farm_token,
            "SHEEPFOLD_RETRY_WAIT_S": "0.3",
            "SHEEPFOLD_NO_JOB_WAIT_S": "0.5",
            "SHEEPFOLD_ALLOW_ROOT": "1",
            "SHEEPFOLD_SANDBOX": "preferred",
        }
        if blender := os.environ.get("SHEEPFOLD_BLENDER"):
            own["SHEEPFOLD_BLENDER"] = blender
        return clean | own | self.extra | more

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Starts ``sheepfold ARGUMENTS``; its standard error goes to ``<name>.log``."""
        with self.log_of(name).open("ab") as log:
            process = subprocess.Popen(
                [SHEEPFOLD, *arguments],
                env=self.environment(**environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_server(self, *arguments: str) -> None:
        """The lab server, answering."""
        self.start("server", "server", *arguments)
        self._answering("server", self.server_url)

    def start_coordinator(self, **environment: str) -> None:
        """The coordinator, answering."""
        self.start("coordinator", "coordinator", **environment)
        self._answering("coordinator", self.coordinator_url)

    def start_worker(self, name: str, **environment: str) -> None:
        """A worker that calls itself ``name``."""
        self.start(name, "worker", SHEEPFOLD_NODE_NAME=name, SHEEPFOLD_WORK_DIR=str(self.folder / name), **environment)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        return subprocess.run(
            [SHEEPFOLD, *arguments],
            env=self.environment(**environment),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def password_of(self, role: str) -> str:
        """What the coordinator made for ``viewer``, ``operator`` or ``admin`` at its first start."""
        return (self.folder / "coordinator" / f"{role}-password").read_text().strip()

    def status(self) -> dict[str, Any]:
        """``sheepfold status --json``, asked over HTTP as the command does."""
        return self._json(self.coordinator_url + "/api/status", f"Bearer {self.password_of('viewer')}")

    def redis_url(self) -> str:
        """Where the farm's Redis is, with all rights: that of the settings, or the coordinator's own."""
        if given := self.extra.get("SHEEPFOLD_REDIS_URL"):
            return given
        own = json.loads((self.folder / "coordinator" / "redis" / "redis.json").read_text())
        return f"redis://{COORDINATOR_USER}:{own['coordinator_password']}@127.0.0.1:{own['port']}/0"

    def flower_redis_url(self) -> str:
        """Where Flower is told that it is."""
        return self._json(self.coordinator_url + "/api/broker", f"Bearer {self.password_of('viewer')}")["redis_url"]

    def projects(self) -> dict[str, Any]:
        """The lab server's projects."""
        login = b64encode(f"{self.login}:{self.password}".encode()).decode("ascii")
        return self._json(self.server_url + "/api/projects", f"Basic {login}")

    def server_fails(self, exchange: str, action: str, count: int = 1) -> None:
        """The lab server (started with ``--faults``) answers the next requests of an exchange as told."""
        login = b64encode(f"{self.login}:{self.password}".encode()).decode("ascii")
        request = urllib.request.Request(
            self.server_url + "/api/faults",
            data=json.dumps({"exchange": exchange, "action": action, "count": count}).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()

    def log_of(self, name: str) -> Path:
        """Where a process writes."""
        return self.folder / f"{name}.log"

    def stop(self, name: str, with_signal: int = signal.SIGTERM) -> int:
        """Stops one process; its exit code. Fails when it takes longer than it promises."""
        process = self.processes.pop(name)
        process.send_signal(with_signal)
        return process.wait(STOPS_WITHIN_S)

    def end(self) -> None:
        """Ends everything, whatever state it is in."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOPS_WITHIN_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _answering(self, name: str, url: str) -> None:
        def ready() -> bool:
            if self.processes[name].poll() is not None:
                raise AssertionError(f"{name} ended:\n{self.log_of(name).read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(url + "/healthz", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                return False

        wait_for(f"{name} answers", ready, 30)

    def _json(self, url: str, authorization: str) -> Any:
        request = urllib.request.Request(url, headers={"Authorization": authorization})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextlib.contextmanager
def running_farm(folder: Path, **options: Any) -> Iterator[RunningFarm]:
    """A farm without processes yet; whatever was started ends with the block."""
    farm = RunningFarm(folder, **options)
    try:
        yield farm
    finally:
        farm.end()
