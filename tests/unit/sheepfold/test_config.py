"""Every setting is known by name, and a name that none has is told with the one that was meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator.operator.flower import FlowerSettings
from coordinator.settings import CoordinatorSettings
from lab.settings import ServerSettings
from render_tasks.blender.orphan_guard import MARK_VARIABLE
from render_tasks.settings import WorkerSettings
from sheepfold.cli import app
from sheepfold.config import PREFIX, SETTINGS, VARIABLES, unknown_settings

PROJECT = Path(__file__).parents[3]


def lines(folder: Path, environment: dict[str, str], toml: str = "") -> list[str]:
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
    assert lines(tmp_path, environment | {"PATH": "x"}, 'port = 1\ntags = "fast"\n') == []


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
    [line] = lines(tmp_path, {variable: "secret"})
    assert line == f"{variable} is no setting and does nothing; did you mean {meant}?"


def test_a_name_like_no_other_is_told_without_a_guess(tmp_path):
    assert lines(tmp_path, {"SHEEPFOLD_XQZW": "1"}) == ["SHEEPFOLD_XQZW is no setting and does nothing"]


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
    [line] = lines(tmp_path, {}, toml)
    assert line.startswith(str(tmp_path))
    assert line.endswith(end)


@pytest.mark.parametrize("toml", ["port = = 3", "\x00"])
def test_a_file_that_cannot_be_read_is_left_to_the_command(tmp_path, toml):
    assert lines(tmp_path, {}, toml) == []


def test_every_command_warns_before_it_does_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHEEPFOLD_STATE_DIRECTORY", str(tmp_path))
    done = CliRunner().invoke(app, ["ledger", "backup", "copy.sqlite"])
    assert "warning: SHEEPFOLD_STATE_DIRECTORY is no setting" in done.output.splitlines()[0]
    assert "did you mean SHEEPFOLD_STATE_DIR?" in done.output
