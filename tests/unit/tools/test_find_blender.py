"""How a Blender is found: the order of the ways, and what is said when none works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import find_blender
from tools.find_blender import NoBlender


def write_program(folder: Path, name: str, says: str = "Blender 9.9", code: int = 0) -> Path:
    """An executable that says something and ends."""
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    file.chmod(0o755)
    return file


def find_nothing(reason: str) -> str | None:
    """A way that is closed."""
    raise NoBlender(reason)


def test_the_variable_names_the_blender(tmp_path: Path) -> None:
    blender = write_program(tmp_path, "my-blender")
    assert find_blender.named({"SHEEPFOLD_BLENDER": str(blender)}) == str(blender)


def test_an_unset_or_empty_variable_names_none() -> None:
    assert find_blender.named({}) is None
    assert find_blender.named({"SHEEPFOLD_BLENDER": ""}) is None


def test_a_wrong_variable_is_an_error_and_nothing_else_is_tried(tmp_path: Path) -> None:
    tried: list[str] = []
    ways = {
        "named": lambda: find_blender.named({"SHEEPFOLD_BLENDER": str(tmp_path / "nothing")}),
        "path": lambda: tried.append("path"),
    }
    with pytest.raises(NoBlender, match=r"SHEEPFOLD_BLENDER names .*nothing"):
        find_blender.find(ways)
    assert tried == []


def test_a_blender_on_the_path_is_found(tmp_path: Path) -> None:
    blender = write_program(tmp_path, "blender")
    assert find_blender.on_path({"PATH": str(tmp_path)}) == str(blender)


@pytest.mark.parametrize(("says", "code"), [("Blender 9.9", 1), ("something else", 0), ("", 127)])
def test_a_blender_that_does_not_start_is_none(tmp_path: Path, says: str, code: int) -> None:
    write_program(tmp_path, "blender", says, code)
    with pytest.raises(NoBlender, match="does not start"):
        find_blender.on_path({"PATH": str(tmp_path)})


def test_the_first_way_that_works_is_taken() -> None:
    ways = {
        "path": lambda: None,
        "kept": lambda: find_nothing("broken"),
        "apt": lambda: "/b",
        "wheel": lambda: "/never",
    }
    assert find_blender.find(ways) == "/b"


def test_when_no_way_works_every_reason_is_told() -> None:
    with pytest.raises(NoBlender) as raised:
        find_blender.find({"apt": lambda: find_nothing("no line"), "wheel": lambda: find_nothing("no wheel for 2.7")})
    assert all(word in str(raised.value) for word in ("apt-get install blender", "no line", "no wheel for 2.7"))


def test_every_way_has_its_place_in_the_order() -> None:
    assert list(find_blender.WAYS) == ["named", "path", "kept", "apt", "wheel"]


def test_a_python_without_a_wheel_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_blender, "WHEEL_FOR_PYTHON", {(2, 7): "bpy==2.7"})
    with pytest.raises(NoBlender, match="no bpy wheel for Python"):
        find_blender.from_wheel()


def test_the_launcher_runs_what_it_was_made_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_blender, "WHEEL_HOME", tmp_path)
    launcher = find_blender.write_launcher(write_program(tmp_path, "py thon", "Blender 4.5"))
    assert find_blender.checked(launcher) == launcher


def test_only_the_path_goes_to_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blender = write_program(tmp_path, "my-blender")
    monkeypatch.setenv("SHEEPFOLD_BLENDER", str(blender))
    monkeypatch.setattr(find_blender, "WAYS", {"named": lambda: find_blender.named()})
    assert find_blender.main([]) == 0
    assert capsys.readouterr().out == f"{blender}\n"
