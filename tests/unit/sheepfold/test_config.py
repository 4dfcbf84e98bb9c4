"""How settings are read; each is known by name, and a name that none has is told with the one that was meant."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from coordinator.operator.flower import FlowerSettings
from coordinator.settings import CoordinatorSettings
from lab.settings import ServerSettings
from render_tasks.blender.orphan_guard import MARK_VARIABLE
from render_tasks.settings import WorkerSettings
from sheepfold.config import (
    MAX_SECRET_CHARS,
    PREFIX,
    PUBLISHED_SECRETS,
    SETTINGS,
    VARIABLES,
    read_secret_file,
    refuse_published,
    unknown_settings,
)
from sheepfold.errors import BadSecretFile, ExitCode, PublishedSecret
from tests.conftest import missing
from tests.support.commands import run_command

PROJECT = Path(__file__).parents[3]


def unknown_lines(folder: Path, environment: dict[str, str], toml: str = "") -> list[str]:
    (folder / "sheepfold.toml").write_text(toml)
    return list(unknown_settings(environment, folder / "sheepfold.toml"))


def test_the_list_of_names_is_that_of_all_commands():
    commands = (CoordinatorSettings, FlowerSettings, WorkerSettings, ServerSettings)
    assert {name for settings in commands for name in settings.model_fields} == SETTINGS
    assert MARK_VARIABLE.removeprefix(PREFIX).lower() in VARIABLES


def test_every_variable_that_the_containers_use_is_known():
    named = set(re.findall(r"SHEEPFOLD_[A-Z_]*[A-Z]", (PROJECT / "docker-compose.yml").read_text()))
    assert len(named) > 20
    assert list(unknown_settings(dict.fromkeys(named, ""), PROJECT / "no-such-file.toml")) == []


def test_known_names_are_passed_over(tmp_path):
    environment = {"SHEEPFOLD_PORT": "1", "sheepfold_slots": "2", "SHEEPFOLD_BLENDER": "b", "SHEEPFOLD_TEST_X": "1"}
    assert unknown_lines(tmp_path, environment | {"PATH": "x"}, 'port = 1\ntags = "fast"\n') == []


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SHEEPFOLD_PASSWORDFILE", "SHEEPFOLD_PASSWORD_FILE"),
        ("SHEEPFOLD_COORDINATOR_ULR", "SHEEPFOLD_COORDINATOR_URL"),
        ("SHEEPFOLD_SLOT", "SHEEPFOLD_SLOTS"),
        ("SHEEPFOLD_BLENDR", "SHEEPFOLD_BLENDER"),
    ],
)
def test_a_misspelled_variable_is_told_with_the_name_that_was_meant(tmp_path, variable, meant):
    [line] = unknown_lines(tmp_path, {variable: "secret"})
    assert line == f"{variable} is no setting and does nothing; did you mean {meant}?"


def test_a_name_like_no_other_is_told_without_a_guess(tmp_path):
    assert unknown_lines(tmp_path, {"SHEEPFOLD_XQZW": "1"}) == ["SHEEPFOLD_XQZW is no setting and does nothing"]


@pytest.mark.parametrize(
    ("toml", "end"),
    [
        ("pasword_file = 'x'", "pasword_file is no setting and does nothing; did you mean password_file?"),
        ("SHEEPFOLD_PORT = 1", "SHEEPFOLD_PORT is no setting and does nothing; did you mean port?"),
        ("blender = 'x'", "blender is no setting and does nothing; set SHEEPFOLD_BLENDER in the environment"),
        ("[worker]\nslots = 2", "worker is no setting and does nothing; did you mean work_dir?"),
    ],
)
def test_a_key_of_the_file_that_nothing_reads_is_told(tmp_path, toml, end):
    [line] = unknown_lines(tmp_path, {}, toml)
    assert line.startswith(str(tmp_path))
    assert line.endswith(end)


@pytest.mark.parametrize("toml", ["port = = 3", "\x00"])
def test_a_file_that_cannot_be_read_is_left_to_the_command(tmp_path, toml):
    assert unknown_lines(tmp_path, {}, toml) == []


def test_every_command_warns_before_it_does_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHEEPFOLD_STATE_DIRECTORY", str(tmp_path))
    done = run_command(["ledger", "backup", "copy.sqlite"])
    assert "warning: SHEEPFOLD_STATE_DIRECTORY is no setting" in done.output.splitlines()[0]
    assert "did you mean SHEEPFOLD_STATE_DIR?" in done.output


# A password in a file: one rule for every command


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b"\xef\xbb\xbfs3cret\n", "s3cret"),
        (b"s3cret\nanother line\n", "s3cret"),
        (" p\xe4ss w\xf6rd \n".encode(), " p\xe4ss w\xf6rd "),
    ],
)
def test_every_command_takes_the_first_line_of_a_password_file(tmp_path, monkeypatch, content, password):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_bytes(content)
    given = {"login": "studio", "server_url": "http://server", "password_file": tmp_path / "password"}
    monkeypatch.delenv("SHEEPFOLD_PASSWORD", raising=False)
    for settings in (CoordinatorSettings(**given), ServerSettings(**given)):
        assert settings.password is not None
        assert settings.password.get_secret_value() == password
    assert read_secret_file(tmp_path / "password", "SHEEPFOLD_FLOWER_PASSWORD") == password


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: write the password there"),
        (b"\xef\xbb\xbf\n", "is empty: write the password there"),
        (b"\ns3cret\n", "is empty: write the password there"),
        (b"\xffs3cret", "no text in UTF-8"),
        (b"s3cret" + b"x" * MAX_SECRET_CHARS, "too long for a password"),
    ],
)
def test_a_file_without_a_password_says_what_to_do_and_shows_nothing(tmp_path, content, message):
    (tmp_path / "password").write_bytes(content)
    with pytest.raises(BadSecretFile, match=message) as refused:
        read_secret_file(tmp_path / "password", "SHEEPFOLD_PASSWORD_FILE")
    assert str(refused.value).startswith("SHEEPFOLD_PASSWORD_FILE: ")
    assert str(tmp_path / "password") in str(refused.value)
    assert "s3cret" not in str(refused.value)


# An address: one rule for every setting


@pytest.mark.parametrize(
    "url", ["farm:8420", "ftp://farm", "http://", "http:///path", "http://[::1", "http://farm:http", "http://farm:0"]
)
def test_what_is_no_address_is_refused_by_every_command(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    for settings, name, more in (
        (CoordinatorSettings, "server_url", {"login": "studio", "password": "x"}),
        (ServerSettings, "server_url", {"login": "studio", "password": "x"}),
        (WorkerSettings, "coordinator_url", {"farm_token": "token"}),
    ):
        with pytest.raises(ValidationError, match="must be an address such as"):
            settings(**{name: url}, **more)
        with pytest.raises(ValidationError, match="must not hold a login"):
            settings(**{name: "http://me:pw@farm"}, **more)
        assert getattr(settings(**{name: "http://farm:8420/"}, **more), name) == "http://farm:8420"


# Secrets that everybody can read

LAB_TOKEN = "lab-farm-token"


@pytest.fixture(autouse=True)
def _no_bind_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
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


COMPOSE_NEEDS = (
    "SHEEPFOLD_FARM_TOKEN",
    "SHEEPFOLD_REDIS_PASSWORD",
    "SHEEPFOLD_FLOWER_PASSWORD",
    "SHEEPFOLD_VIEWER_PASSWORD",
)


@pytest.mark.parametrize("name", COMPOSE_NEEDS)
def test_compose_says_which_secret_of_an_env_file_is_empty(name: str, tmp_path: Path) -> None:
    compose = shutil.which("docker-compose")
    if compose is None:
        missing("no docker-compose: install docker-compose")
    text = "".join(f"{secret}={'' if secret == name else 'own'}\n" for secret in COMPOSE_NEEDS)
    (tmp_path / "studio.env").write_text(text)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SHEEPFOLD_", "COMPOSE_"))}
    done = subprocess.run(
        [str(compose), "--file", str(PROJECT / "docker-compose.yml"), "--env-file", str(tmp_path / "studio.env"),
         "config", "--quiet"],
        env=clean, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert name in done.stderr
