"""The farm of docker-compose.yml under a name, ports and secrets of its own; nothing of it outlives the context."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any, Self

from tests.support.farm.running_farm import free_port

PROJECT = Path(__file__).parents[3]
#: From nothing: Debian's Blender and the wheels have to come over the line.
BUILD_S = 900
COMMAND_S = 180
SECRETS = (
    "SHEEPFOLD_PASSWORD", "SHEEPFOLD_FARM_TOKEN", "SHEEPFOLD_REDIS_PASSWORD", "SHEEPFOLD_FLOWER_PASSWORD",
    "SHEEPFOLD_VIEWER_PASSWORD", "SHEEPFOLD_OPERATOR_PASSWORD", "SHEEPFOLD_ADMIN_PASSWORD",
)  # fmt: skip


class ComposedFarm:
    """Addresses, secrets and the compose command line of one farm."""

    def __init__(self, compose: list[str]) -> None:
        self._compose = compose
        self.name = f"sheepfold-test-{secrets.token_hex(4)}"
        self.ports = {part: free_port() for part in ("server", "coordinator", "archives", "redis", "flower")}
        self.login, self.flower_user = "studio", "operator"
        self.secrets = {name: secrets.token_hex(16) for name in SECRETS}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if failed:
            print(self.run("logs", "--no-color", "--tail=60"))
        self.run("down", "--volumes", "--remove-orphans", "--timeout", "15")

    def run(self, *arguments: str, within_s: int = COMMAND_S) -> str:
        """Runs a compose command; what it printed. The tracked ``.env`` chooses the profile, as in a fresh clone."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SHEEPFOLD_", "COMPOSE_"))}
        own = {
            "SHEEPFOLD_SERVER_PORT": str(self.ports["server"]),
            "SHEEPFOLD_PORT": str(self.ports["coordinator"]),
            "SHEEPFOLD_ARCHIVE_PORT": str(self.ports["archives"]),
            "SHEEPFOLD_REDIS_PORT": str(self.ports["redis"]),
            "SHEEPFOLD_FLOWER_PORT": str(self.ports["flower"]),
            "SHEEPFOLD_LOGIN": self.login,
            "SHEEPFOLD_FLOWER_USER": self.flower_user,
        }
        done = subprocess.run(
            [*self._compose, "--project-name", self.name, *arguments],
            cwd=PROJECT, env=clean | own | self.secrets, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            timeout=within_s, check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(f"compose {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def timed(self, *arguments: str, within_s: int = COMMAND_S) -> float:
        """Runs a compose command; how many seconds it took."""
        started = time.monotonic()
        self.run(*arguments, within_s=within_s)
        return time.monotonic() - started

    def containers(self) -> list[dict[str, Any]]:
        """Every container of the farm, stopped ones included, as ``docker inspect`` tells."""
        label = f"label=com.docker.compose.project={self.name}"
        ids = _docker("ps", "--all", "--quiet", "--filter", label).split()
        return json.loads(_docker("inspect", *ids))

    def flower(self, path: str, *, login: bool = True, method: str = "GET") -> tuple[int, str]:
        """Flower's answer: status and text; status 0 while nobody listens."""
        known = (self.flower_user, self.secrets["SHEEPFOLD_FLOWER_PASSWORD"]) if login else None
        return self._ask(f"http://127.0.0.1:{self.ports['flower']}{path}", known, method)

    def server(self, path: str) -> tuple[int, str]:
        """The lab server's answer; status 0 while nobody listens."""
        known = self.login, self.secrets["SHEEPFOLD_PASSWORD"]
        return self._ask(f"http://127.0.0.1:{self.ports['server']}{path}", known, "GET")

    def coordinator(self, path: str, login: tuple[str, str] | None) -> tuple[int, str]:
        """The coordinator's answer; status 0 while nobody listens."""
        return self._ask(f"http://127.0.0.1:{self.ports['coordinator']}{path}", login, "GET")

    @staticmethod
    def _ask(url: str, login: tuple[str, str] | None, method: str) -> tuple[int, str]:
        headers = {"Authorization": "Basic " + b64encode(":".join(login).encode()).decode()} if login else {}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, method=method, headers=headers), timeout=20
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


def _docker(*arguments: str) -> str:
    return subprocess.run(
        ["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=COMMAND_S
    ).stdout
