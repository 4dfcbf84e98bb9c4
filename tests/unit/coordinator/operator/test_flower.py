"""What Flower is told: a login always, looking only, and words for people."""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from coordinator.operator import flower
from coordinator.operator.errors import NoAnswerFromCoordinator
from coordinator.operator.flower import FlowerSettings, password_file, readable
from sheepfold.errors import BadSecretFile, ExitCode


@pytest.fixture(autouse=True)
def _no_settings_in_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FLOWER_USER", "FLOWER_PASSWORD", "FLOWER_HOST", "FLOWER_PORT"):
        monkeypatch.delenv(f"SHEEPFOLD_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_flower_listens_on_loopback_unless_told_otherwise() -> None:
    assert (FlowerSettings().flower_host, FlowerSettings().flower_port) == ("127.0.0.1", 5555)


def test_a_password_is_made_once_and_only_its_owner_reads_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    settings = FlowerSettings(state_dir=tmp_path / "state")
    password = flower._password(settings)
    file = password_file(settings.state_dir)
    assert flower._password(settings) == password == file.read_text().strip()
    assert len(password) >= 20
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in caplog.text
    assert password not in caplog.text


def test_an_empty_password_file_is_told_and_nothing_is_served(tmp_path: Path) -> None:
    password_file(tmp_path).write_text("\n")
    settings = FlowerSettings(state_dir=tmp_path)
    with pytest.raises(BadSecretFile, match="is empty") as refused:
        flower.run_flower(settings, lambda: "redis://127.0.0.1:1/0")
    assert str(password_file(tmp_path)) in str(refused.value)
    assert refused.value.exit_code == ExitCode.WRONG_SETTING


def test_flower_waits_for_a_coordinator_that_is_not_up_yet_and_tells_it_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silences = [NoAnswerFromCoordinator("nobody"), NoAnswerFromCoordinator("nobody")]

    def ask() -> str:
        if silences:
            raise silences.pop()
        return "redis://h"

    monkeypatch.setattr(flower, "ASK_AGAIN_S", 0.0)
    assert flower._answer(ask) == "redis://h"
    assert caplog.text.count("asking again") == 1


def test_a_password_that_was_given_is_taken_and_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHEEPFOLD_FLOWER_PASSWORD", "my own password")
    settings = FlowerSettings(state_dir=tmp_path)
    assert flower._password(settings) == "my own password"
    assert not password_file(tmp_path).exists()
    assert "my own password" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"), [("PASSWORD", "hidden7"), ("USER", "a:b"), ("PORT", "0"), ("PORT", "70000")]
)
def test_a_wrong_setting_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SHEEPFOLD_FLOWER_{name}", value)
    with pytest.raises(ValidationError) as raised:
        FlowerSettings()
    assert raised.value.errors()[0]["loc"] == (f"flower_{name.lower()}",)
    assert "hidden7" not in str(raised.value)


@pytest.mark.parametrize(
    ("exception", "reason"),
    [
        ("FrameFailed('renderer crashed: signal 11')", "renderer crashed: signal 11"),
        ('FrameFailed("the node\'s disk is full")', "the node's disk is full"),
        ("FrameFailed('a', 2)", "FrameFailed('a', 2)"),
        (None, None),
    ],
)
def test_a_failed_frame_tells_its_reason_in_words(exception: str | None, reason: str | None) -> None:
    assert readable(SimpleNamespace(exception=exception)).exception == reason
