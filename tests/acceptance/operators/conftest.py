"""What only acceptance tests need: a Docker Engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

#: Installing an engine and making its base images, on a machine that has neither.
ENGINE_UP_S = 900


@pytest.fixture(scope="session")
def compose_command() -> Iterator[list[str]]:
    """``docker compose`` or ``docker-compose``, with an engine that answers.

    ``$SHEEPFOLD_TEST_ENGINE`` names a command that starts an engine (``up``, harmless when one runs already) and stops
    it (``down``), for machines that have none. Without any engine this fails in CI and skips on a laptop.
    """
    starter = os.environ.get("SHEEPFOLD_TEST_ENGINE")
    was_up = _answers("docker", "info")
    if starter:
        subprocess.run([starter, "up"], check=True, stdin=subprocess.DEVNULL, timeout=ENGINE_UP_S)
    try:
        yield _compose()
    finally:
        if starter and not was_up:
            subprocess.run([starter, "down"], check=True, stdin=subprocess.DEVNULL, timeout=60)


def _compose() -> list[str]:
    reason = "no Docker Engine answers: start one, or let SHEEPFOLD_TEST_ENGINE name a command that does"
    if _answers("docker", "info"):
        for command in (["docker", "compose"], ["docker-compose"]):
            if _answers(*command, "version"):
                return command
        reason = "neither `docker compose` nor `docker-compose` is installed"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _answers(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return (
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False).returncode == 0
    )
