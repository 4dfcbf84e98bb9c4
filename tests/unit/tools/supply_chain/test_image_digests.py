"""Images by digest: what the registry answers stands in the file, or the file is as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.supply_chain import image_digests
from tools.supply_chain.image_digests import IMAGES, NoDigest

DIGEST = "sha256:" + 64 * "b"


class Registry:
    """Docker with a registry behind it; ``silent`` names are not answered."""

    def __init__(self, *, silent: str = "") -> None:
        self.silent, self.pulled = silent, list[str]()

    def __call__(self, words: Sequence[str]) -> str:
        name = words[-1]
        if words[0] == "pull":
            if name == self.silent:
                raise NoDigest("no such host")
            self.pulled.append(name)
            return ""
        repository = re.sub(r":[^:/]+$", "", name)
        return json.dumps([f"elsewhere/{repository}@sha256:{64 * 'e'}", f"{repository}@{DIGEST}"])


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A studio's file, made of the example that the project ships."""
    file = tmp_path / "studio.env"
    example = Path(__file__).resolve().parents[4] / ".env.example"
    file.write_bytes(example.read_bytes() + b"SHEEPFOLD_LOGIN=studio\n")
    file.chmod(0o600)
    return file


def test_the_lines_of_the_example_are_filled_in_and_nothing_else_changes(settings: Path) -> None:
    before = settings.read_text().splitlines()
    image_digests.pin(settings, Registry())
    changed = [(old, new) for old, new in zip(before, settings.read_text().splitlines(), strict=True) if old != new]
    assert changed == [(f"#{name}={image}@sha256:...", f"{name}={image}@{DIGEST}") for name, image in IMAGES.items()]
    assert settings.stat().st_mode & 0o777 == 0o600


def test_a_name_of_ones_own_is_asked_again_by_name_not_by_digest(tmp_path: Path) -> None:
    file, registry = tmp_path / "studio.env", Registry()
    file.write_text(f"SHEEPFOLD_REDIS_IMAGE=mirror.example:5000/redis:8@sha256:{64 * '0'}\n")
    image_digests.pin(file, registry)
    assert registry.pulled == ["python:3.11-slim-bookworm", "mirror.example:5000/redis:8"]
    assert file.read_text().splitlines() == [
        f"SHEEPFOLD_REDIS_IMAGE=mirror.example:5000/redis:8@{DIGEST}",
        f"SHEEPFOLD_PYTHON_IMAGE=python:3.11-slim-bookworm@{DIGEST}",
    ]


def test_a_line_that_counts_is_replaced_not_the_example_above_it(settings: Path) -> None:
    with settings.open("a") as file:
        file.write("SHEEPFOLD_REDIS_IMAGE=redis:7\nSHEEPFOLD_REDIS_IMAGE=redis:8\n")
    image_digests.pin(settings, Registry())
    lines = [line for line in settings.read_text().splitlines() if line.startswith("SHEEPFOLD_REDIS_IMAGE=")]
    assert {*lines} == {f"SHEEPFOLD_REDIS_IMAGE=redis:8@{DIGEST}"}


def test_a_registry_that_does_not_answer_leaves_the_file_and_is_told(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = settings.read_bytes()
    assert image_digests.main([str(settings)], Registry(silent=IMAGES["SHEEPFOLD_REDIS_IMAGE"])) == 1
    assert "no such host" in (said := capsys.readouterr().err)
    assert "NOT PINNED" in said
    assert settings.read_bytes() == before


def test_an_image_of_this_machine_has_no_digest() -> None:
    def stand_in(words: Sequence[str]) -> str:
        return "null"

    with pytest.raises(NoDigest, match="made on this machine"):
        image_digests.with_digest("redis:7-bookworm", stand_in)


def test_docker_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoDigest, match="docker"):
        image_digests.docker(["pull", "redis"])


def test_the_names_are_those_of_compose_and_the_dockerfile() -> None:
    project = Path(__file__).resolve().parents[4]
    compose = (project / "docker-compose.yml").read_text(encoding="utf-8")
    assert dict(re.findall(r"\$\{(SHEEPFOLD_\w+_IMAGE):-([^}]+)\}", compose)) == dict(IMAGES)
    assert f"ARG PYTHON_IMAGE={IMAGES['SHEEPFOLD_PYTHON_IMAGE']}\n" in (project / "Dockerfile").read_text(
        encoding="utf-8"
    )
