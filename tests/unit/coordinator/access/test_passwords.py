"""Where the passwords of people come from: settings, files, systemd, and what was made in the state folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from coordinator.access.errors import NoPassword, SamePassword
from coordinator.access.passwords import known_password, password_file, role_passwords
from coordinator.access.roles import PEOPLE, Role
from coordinator.settings import FarmSettings
from sheepfold.errors import BadSecretFile, ExitCode

TOKEN = "a-token-of-the-farm"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for role in PEOPLE:
        monkeypatch.delenv(f"SHEEPFOLD_{role.upper()}_PASSWORD", raising=False)
        monkeypatch.delenv(f"SHEEPFOLD_{role.upper()}_PASSWORD_FILE", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("SHEEPFOLD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def test_each_is_made_once_differs_and_only_its_owner_reads_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = role_passwords(FarmSettings(), TOKEN)
    assert role_passwords(FarmSettings(), TOKEN) == made
    assert tuple(made) == PEOPLE
    assert len({*made.values(), TOKEN}) == 4
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    for role, password in made.items():
        file = password_file(tmp_path / "state", role)
        assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (f"{password}\n", 0o600)
        assert len(password) >= 32
        assert str(file) in caplog.text
        assert password not in caplog.text
        assert known_password(FarmSettings(), role) == password


def test_what_is_set_is_taken_and_not_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "operators").write_text("from-a-file-of-ones-own\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "admin-password").write_text("from-systemd\n")
    monkeypatch.setenv("SHEEPFOLD_VIEWER_PASSWORD", "from-the-environment")
    monkeypatch.setenv("SHEEPFOLD_OPERATOR_PASSWORD_FILE", str(tmp_path / "operators"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert list(role_passwords(FarmSettings(), TOKEN).values()) == [
        "from-the-environment", "from-a-file-of-ones-own", "from-systemd",
    ]  # fmt: skip
    assert not (tmp_path / "state").exists()
    assert "from-" not in repr(FarmSettings())


def test_a_short_one_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHEEPFOLD_VIEWER_PASSWORD", "hidden-word")
    with pytest.raises(ValidationError) as told:
        FarmSettings()
    assert told.value.errors()[0]["loc"] == ("viewer_password",)
    assert "hidden-word" not in str(told.value)


@pytest.mark.parametrize("same", [TOKEN, "the-viewers-own-password"])
def test_two_secrets_that_are_the_same_are_refused(monkeypatch: pytest.MonkeyPatch, same: str) -> None:
    monkeypatch.setenv("SHEEPFOLD_VIEWER_PASSWORD", "the-viewers-own-password")
    monkeypatch.setenv("SHEEPFOLD_ADMIN_PASSWORD", same)
    with pytest.raises(SamePassword, match="SHEEPFOLD_ADMIN_PASSWORD: it is the same as SHEEPFOLD_") as refused:
        role_passwords(FarmSettings(), TOKEN)
    assert refused.value.exit_code == ExitCode.WRONG_SETTING
    assert same not in str(refused.value)


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    password_file(tmp_path / "state", Role.OPERATOR).write_text("\n")
    with pytest.raises(BadSecretFile, match=r"^SHEEPFOLD_OPERATOR_PASSWORD: .* is empty"):
        role_passwords(FarmSettings(), TOKEN)


def test_a_command_takes_the_least_role_that_is_known_and_may_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHEEPFOLD_OPERATOR_PASSWORD", "an-operators-own")
    assert known_password(FarmSettings(), Role.VIEWER) == "an-operators-own"
    assert known_password(FarmSettings(), Role.OPERATOR) == "an-operators-own"
    monkeypatch.setenv("SHEEPFOLD_VIEWER_PASSWORD", "a-viewers-own")
    assert known_password(FarmSettings(), Role.VIEWER) == "a-viewers-own"


def test_a_command_without_a_password_says_which_role_it_needs_and_where_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHEEPFOLD_OPERATOR_PASSWORD", "an-operators-own")
    with pytest.raises(NoPassword) as refused:
        known_password(FarmSettings(), Role.ADMIN)
    said = refused.value.operator_line
    assert said.startswith("SHEEPFOLD_ADMIN_PASSWORD: this needs the role admin")
    assert str(password_file(tmp_path / "state", Role.ADMIN)) in said
    assert refused.value.exit_code == ExitCode.WRONG_SETTING
