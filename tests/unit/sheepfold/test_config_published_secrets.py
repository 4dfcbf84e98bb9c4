"""Secrets that everybody can read are no secrets where other machines can connect."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from sheepfold.config import PUBLISHED_SECRETS, refuse_published
from sheepfold.errors import ExitCode, PublishedSecret
from tests.conftest import missing

PROJECT = Path(__file__).parents[3]
LAB_TOKEN = "lab-farm-token"


@pytest.fixture(autouse=True)
def no_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHEEPFOLD_BIND", raising=False)


@pytest.mark.parametrize("secret", [LAB_TOKEN, SecretStr(LAB_TOKEN), "redis://:lab-redis-password@redis:6379/0"])
@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.1.10", "farm.lan"])
def test_a_published_secret_is_refused_off_loopback_and_not_shown(host: str, secret: SecretStr | str) -> None:
    with pytest.raises(PublishedSecret) as refused:
        refuse_published(host, {"SHEEPFOLD_X": secret})
    assert refused.value.exit_code is ExitCode.WRONG_SETTING
    assert str(refused.value).startswith("SHEEPFOLD_X: ")
    assert "lab-" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_it_may_be_used_on_loopback(host: str) -> None:
    refuse_published(host, {"SHEEPFOLD_X": LAB_TOKEN})


def test_a_secret_of_ones_own_may_be_used_everywhere() -> None:
    refuse_published("0.0.0.0", {"SHEEPFOLD_X": "f4" * 24, "SHEEPFOLD_Y": None, "SHEEPFOLD_Z": "redis://:f4@h/0"})


def test_in_a_container_the_address_of_its_ports_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHEEPFOLD_BIND", "127.0.0.1")
    refuse_published("0.0.0.0", {"SHEEPFOLD_X": LAB_TOKEN})
    monkeypatch.setenv("SHEEPFOLD_BIND", "0.0.0.0")
    with pytest.raises(PublishedSecret):
        refuse_published("0.0.0.0", {"SHEEPFOLD_X": LAB_TOKEN})


def test_every_secret_that_the_project_publishes_is_on_the_list() -> None:
    files = [PROJECT / ".env", PROJECT / "docker-compose.yml", PROJECT / ".env.example", PROJECT / "README.md"]
    files += (PROJECT / "docs").rglob("*.md")
    found = set[str]()
    for path in files:
        found |= set(re.findall(r"SHEEPFOLD_(?:[A-Z]+_)?(?:TOKEN|PASSWORD)(?:=|:-)([\w-]+)", path.read_text()))
    assert found >= {LAB_TOKEN, "lab-server-password", "a-long-secret-of-your-own"}
    assert found <= PUBLISHED_SECRETS


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("coordinator", {"SHEEPFOLD_HOST": "0.0.0.0", "SHEEPFOLD_FARM_TOKEN": LAB_TOKEN}),
        ("server", {"SHEEPFOLD_SERVER_HOST": "0.0.0.0", "SHEEPFOLD_PASSWORD": "lab-server-password"}),
        ("flower", {"SHEEPFOLD_FLOWER_HOST": "0.0.0.0", "SHEEPFOLD_FLOWER_PASSWORD": "lab-flower-password"}),
    ],
)
def test_each_command_ends_before_it_listens(command: str, settings: dict[str, str], tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SHEEPFOLD_")}
    common = {"SHEEPFOLD_LOGIN": "a", "SHEEPFOLD_PASSWORD": "own", "SHEEPFOLD_SERVER_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "sheepfold", command],
        env=clean | common | settings, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, list(tmp_path.iterdir())) == (ExitCode.WRONG_SETTING, []), done.stderr
    assert "stands in the documentation" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["SHEEPFOLD_FARM_TOKEN", "SHEEPFOLD_REDIS_PASSWORD", "SHEEPFOLD_FLOWER_PASSWORD"])
def test_compose_says_which_secret_of_an_env_file_is_empty(name: str, tmp_path: Path) -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        missing("no docker-compose: install docker-compose")
    names = ("SHEEPFOLD_FARM_TOKEN", "SHEEPFOLD_REDIS_PASSWORD", "SHEEPFOLD_FLOWER_PASSWORD")
    (tmp_path / "studio.env").write_text("".join(f"{each}={'' if each == name else 'own'}\n" for each in names))
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SHEEPFOLD_", "COMPOSE_"))}
    done = subprocess.run(
        [str(compose), "--file", str(PROJECT / "docker-compose.yml"), "--env-file", str(tmp_path / "studio.env"),
         "config", "--quiet"],
        env=clean, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert name in done.stderr
