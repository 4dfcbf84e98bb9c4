from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coordinator.settings import CoordinatorSettings, FarmSettings, SessionMode, default_state_dir
from sheepfold.protocol.dialects import SPECIFICATION
from sheepfold.protocol.session_messages import RamUnit

NEEDED = {
    "SHEEPFOLD_SERVER_URL": "https://render.example.org/",
    "SHEEPFOLD_LOGIN": "studio",
    "SHEEPFOLD_PASSWORD": "s3cret word",
}
Read = Callable[..., CoordinatorSettings]


@pytest.fixture
def read_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Settings from an environment that holds what is needed and what the test adds, in an empty folder."""
    import os

    for name in list(os.environ):
        if name.startswith("SHEEPFOLD_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def settings(**environment: str | None) -> CoordinatorSettings:
        for name, value in (NEEDED | environment).items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        return CoordinatorSettings()  # type: ignore[call-arg]

    return settings


def refusal(read_settings: Read, **environment: str | None) -> str:
    """What a wrong setting is told with, the message of the operator's line."""
    with pytest.raises(ValidationError) as caught:
        read_settings(**environment)
    return "\n".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors())


def test_three_settings_are_enough(read_settings: Read) -> None:
    settings = read_settings()
    assert settings.server_url == "https://render.example.org"
    assert settings.password is not None
    assert settings.password.get_secret_value() == "s3cret word"
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 8420, None)
    assert settings.sessions == SessionMode.FARM
    assert (settings.config_path, settings.dialect) == ("/server/config.php", 2015)
    assert settings.sign_in_dialect() is SPECIFICATION, "as the specification has it"
    assert (settings.attempts, settings.look_ahead, settings.render_limit_s) == (2, 1, None)
    assert (settings.redis_url, settings.farm_token) == (None, None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sessions", "machine", SessionMode.MACHINE),
        ("ram_unit", "kilobytes", RamUnit.KILOBYTES),
        ("dialect", "2022", 2022),
        ("client_version", "6.1", "6.1"),
        ("extras", "team=blue", "team=blue"),
        ("port", "9000", 9000),
        ("render_limit_s", "1800", 1800),
        ("no_job_wait_s", "0.5", 0.5),
        ("look_ahead", "0", 0),
        ("config_path", "/config.php", "/config.php"),
        ("public_url", "http://farm.lan:8420/", "http://farm.lan:8420"),
        ("public_url", "http://[fd00::1]:8420", "http://[fd00::1]:8420"),
        ("state_dir", "/var/lib/sheepfold", Path("/var/lib/sheepfold")),
    ],
)
def test_settings_come_from_the_environment(read_settings: Read, name: str, text: str, value: Any) -> None:
    assert getattr(read_settings(**{f"SHEEPFOLD_{name.upper()}": text}), name) == value


def test_a_year_that_is_no_dialect_is_told_with_those_that_are(read_settings: Read) -> None:
    assert "is one of 2015, 2017, 2020, 2022, 2024" in refusal(read_settings, SHEEPFOLD_DIALECT="2019")


def test_a_dialect_has_a_unit_of_memory_of_its_own_unless_the_operator_says_another(read_settings: Read) -> None:
    assert read_settings(SHEEPFOLD_DIALECT="2020").sign_in_dialect().ram_unit is RamUnit.KILOBYTES
    in_bytes = read_settings(SHEEPFOLD_DIALECT="2020", SHEEPFOLD_RAM_UNIT="bytes").sign_in_dialect()
    assert (in_bytes.ram_unit, in_bytes.year) == (RamUnit.BYTES, 2020)


def test_the_file_fills_what_the_environment_leaves_open(read_settings: Read, tmp_path: Path) -> None:
    (tmp_path / "sheepfold.toml").write_text(
        'server_url = "http://file"\nlogin = "file"\nport = 9001\nsomething_else = 1\n', encoding="utf-8"
    )
    settings = read_settings(SHEEPFOLD_SERVER_URL=None)
    assert (settings.server_url, settings.port) == ("http://file", 9001)
    assert settings.login == "studio", "the environment wins"


def test_an_empty_variable_is_as_good_as_none(read_settings: Read) -> None:
    assert read_settings(SHEEPFOLD_REDIS_URL="", SHEEPFOLD_PORT="", SHEEPFOLD_FARM_TOKEN="").port == 8420


@pytest.mark.parametrize("name", ["SHEEPFOLD_SERVER_URL", "SHEEPFOLD_LOGIN"])
def test_what_is_missing_is_named(read_settings: Read, name: str) -> None:
    assert refusal(read_settings, **{name: None}).startswith(name.removeprefix("SHEEPFOLD_").lower())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SERVER_URL", "render.example.org"),
        ("SERVER_URL", "ftp://render.example.org"),
        ("SERVER_URL", "https://"),
        ("SERVER_URL", "http://[::1"),
        ("SERVER_URL", "http://host:99999"),
        ("SERVER_URL", "http://host:http"),
        ("SERVER_URL", "https://me:pw@render.example.org"),
        ("PUBLIC_URL", "farm.lan:8420"),
        ("PUBLIC_URL", "http://farm.lan:port"),
        ("REDIS_URL", "http://host"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://host:99999/0"),
        ("REDIS_URL", "redis://:pass/word@host:6379/0"),
        ("REDIS_URL", "redis://user:pass?word@host:6379/0"),
        ("REDIS_URL", "redis://user:pass#word@host:6379/0"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("SESSIONS", "both"),
        ("DIALECT", "2016"),
        ("DIALECT", "newest"),
        ("JOB_TAGS", "film: fast"),
        ("JOB_TAGS", '["fast"]'),
        ("HEARTBEAT_S", "0"),
        ("HEARTBEAT_S", "nan"),
        ("RETRY_WAIT_S", "-1"),
        ("ATTEMPTS", "0"),
        ("LOOK_AHEAD", "-1"),
        ("CONFIG_PATH", "server/config.php"),
        ("FARM_TOKEN", "short"),
        ("RENDER_LIMIT_S", "0"),
    ],
)
def test_a_wrong_setting_is_named_and_never_shown(read_settings: Read, name: str, text: str) -> None:
    message = refusal(read_settings, **{f"SHEEPFOLD_{name}": text})
    assert message.startswith(f"{name.lower()}: ")
    assert "\n" not in message
    for secret in ("me:pw", "pass", "short"):
        assert secret not in message.partition("such as")[0].replace("SHEEPFOLD_PASSWORD", ""), message


@pytest.mark.parametrize("url", ["redis://host", "rediss://user:p%2Fw@redis.lan:6380/1", "redis://:pw@[::1]:6379/0"])
def test_a_redis_address_is_taken_as_it_is(read_settings: Read, url: str) -> None:
    settings = read_settings(SHEEPFOLD_REDIS_URL=url)
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == url


# The password


def test_the_password_may_lie_in_a_file(read_settings: Read, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(" päss wörd \r\n".encode())
    settings = read_settings(SHEEPFOLD_PASSWORD=None, SHEEPFOLD_PASSWORD_FILE=str(tmp_path / "password"))
    assert settings.password is not None
    assert settings.password.get_secret_value() == " päss wörd ", "only the end of the line is none of it"


def test_a_password_that_is_set_needs_no_file(read_settings: Read) -> None:
    settings = read_settings(SHEEPFOLD_PASSWORD_FILE="/nowhere")
    assert settings.password is not None
    assert settings.password.get_secret_value() == "s3cret word"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe\x00"])
def test_a_password_file_that_is_none_is_named(read_settings: Read, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    message = refusal(read_settings, SHEEPFOLD_PASSWORD=None, SHEEPFOLD_PASSWORD_FILE=str(path))
    assert "SHEEPFOLD_PASSWORD_FILE" in message
    assert str(path) in message


def test_a_folder_is_no_password_file(read_settings: Read, tmp_path: Path) -> None:
    message = refusal(read_settings, SHEEPFOLD_PASSWORD=None, SHEEPFOLD_PASSWORD_FILE=str(tmp_path))
    assert "SHEEPFOLD_PASSWORD_FILE" in message


def test_without_a_password_both_ways_to_give_one_are_named(read_settings: Read) -> None:
    message = refusal(read_settings, SHEEPFOLD_PASSWORD=None)
    assert "SHEEPFOLD_PASSWORD:" in message
    assert "SHEEPFOLD_PASSWORD_FILE" in message


def test_secrets_do_not_show(read_settings: Read) -> None:
    secrets = {
        "SHEEPFOLD_PASSWORD": "s3cret word",
        "SHEEPFOLD_REDIS_URL": "redis://:redis-s3cret@host:6379/0",
        "SHEEPFOLD_FARM_TOKEN": "token-s3cret",
    }
    settings = read_settings(**secrets)
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "s3cret" not in text


def test_an_error_elsewhere_does_not_show_secrets(read_settings: Read) -> None:
    with pytest.raises(ValidationError) as caught:
        read_settings(SHEEPFOLD_PORT="x", SHEEPFOLD_FARM_TOKEN="s3cret", SHEEPFOLD_REDIS_URL="http://:s3cret@host")
    assert "s3cret" not in str(caught.value)


# Where things are


def test_an_operators_command_needs_nothing_to_be_set(read_settings: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NEEDED:
        monkeypatch.delenv(name, raising=False)
    settings = FarmSettings()
    assert settings.coordinator_url == "http://127.0.0.1:8420"
    assert settings.farm_token is None


def test_state_lies_where_the_system_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_dir() == tmp_path / "sheepfold"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state_dir() == tmp_path / ".local" / "state" / "sheepfold"
