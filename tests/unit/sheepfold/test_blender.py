"""Which Blender is found, and which version it tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from sheepfold import blender
from sheepfold.blender import ask_version, find_blender, why_not_found


def write_program(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("SHEEPFOLD_BLENDER", raising=False)


def test_the_one_on_path_is_found(tmp_path: Path) -> None:
    assert find_blender() is None
    assert why_not_found() == "no blender on PATH: install one, or let SHEEPFOLD_BLENDER name it"
    on_path = write_program(tmp_path / "bin" / "blender", "")
    assert find_blender() == on_path


def test_the_one_that_is_named_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin" / "blender", "")
    named = write_program(tmp_path / "other" / "blender-4", "")
    monkeypatch.setenv("SHEEPFOLD_BLENDER", str(named))
    assert find_blender() == named


def test_a_wrong_name_is_no_reason_to_look_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "bin" / "blender", "")
    monkeypatch.setenv("SHEEPFOLD_BLENDER", "/nowhere/blender")
    assert find_blender() is None
    assert why_not_found() == "SHEEPFOLD_BLENDER: /nowhere/blender is no program on this PC"


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = write_program(tmp_path / "other" / "blender", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHEEPFOLD_BLENDER", "other/blender")
    assert find_blender() == named


@pytest.mark.parametrize(
    ("printed", "version"),
    [("Blender 3.4.1", "3.4.1"), ("Blender 4.2", "4.2"), ("warning\\nBlender 2.93.18\\n\\tbuild", "2.93.18"), ("", "")],
)
def test_the_version_is_what_it_says(tmp_path: Path, printed: str, version: str) -> None:
    assert ask_version(write_program(tmp_path / "blender", f'printf "{printed}"')) == version


def test_one_that_does_not_answer_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blender, "ASK_WITHIN_S", 0.1)
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    assert ask_version(write_program(tmp_path / "blender", "exec sleep 60")) == ""
    assert ask_version(tmp_path / "none") == ""
