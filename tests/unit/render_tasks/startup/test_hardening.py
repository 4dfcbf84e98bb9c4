"""What a worker does before it takes a frame."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from render_tasks.errors import RunsAsRoot
from render_tasks.settings import WorkerSettings
from render_tasks.startup.hardening import environment_with_token, refuse_root

TOKEN = "a-token-nobody-may-see"
_HIDES = """
import os, sys
from render_tasks.startup.hardening import hide_token
hide_token()
inside = open("/proc/self/environ", "rb").read()
print("SHEEPFOLD_FARM_TOKEN" in os.environ, sys.argv[1].encode() in inside, b"SHEEPFOLD_NODE_NAME=pc-07" in inside)
print(__import__("ctypes").CDLL(None).prctl(3, 0, 0, 0, 0))
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of others")


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> WorkerSettings:
    own = {"COORDINATOR_URL": "http://127.0.0.1:1", "FARM_TOKEN": TOKEN, **values}
    for name, value in own.items():
        monkeypatch.setenv(f"SHEEPFOLD_{name}", value)
    return WorkerSettings()  # type: ignore[call-arg]


@linux
def test_the_token_is_in_no_environment_once_the_worker_runs() -> None:
    environment = os.environ | {"SHEEPFOLD_FARM_TOKEN": TOKEN, "SHEEPFOLD_NODE_NAME": "pc-07"}
    done = subprocess.run(
        [sys.executable, "-c", _HIDES, TOKEN], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["False", "False", "True", "0"]


@linux
def test_a_worker_that_starts_anew_finds_its_token_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = environment_with_token(TOKEN)
    assert TOKEN not in environment.values()
    monkeypatch.setenv("SHEEPFOLD_FARM_TOKEN_FILE", environment["SHEEPFOLD_FARM_TOKEN_FILE"])
    assert settings(monkeypatch, FARM_TOKEN="").farm_token.get_secret_value() == TOKEN
    os.close(int(environment["SHEEPFOLD_FARM_TOKEN_FILE"].rpartition("/")[2]))


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_worker_runs_as_root_only_where_that_was_allowed(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid, raising=False)
    refuse_root(settings(monkeypatch, ALLOW_ROOT="1"))
    if uid:
        refuse_root(settings(monkeypatch, ALLOW_ROOT="0"))
    else:
        with pytest.raises(RunsAsRoot, match="SHEEPFOLD_ALLOW_ROOT"):
            refuse_root(settings(monkeypatch, ALLOW_ROOT="0"))
