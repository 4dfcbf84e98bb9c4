"""The import contracts catch what they are there for: probes in a copy of the source break them, each by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
PACKAGES = ("sheepfold", "coordinator", "render_tasks", "lab")
#: Module → an import it must not have → what the linter says of it.
PROBES = {
    "lab/cli.py": {
        "coordinator.delivery.spool": "lab is not allowed to import coordinator",
        "coordinator.upstream.transport.http_transport": "lab is not allowed to import coordinator",
        "coordinator.broker.embedded_redis": "lab is not allowed to import coordinator",
        "sheepfold.contract.orders": "lab.cli -> sheepfold.contract.orders",
    },
    "lab/submit/client.py": {"lab.server.services": "lab.submit is not allowed to import lab.server"},
    "lab/server/threads.py": {"lab.server.services": "- .threads -> .services (1 import)"},
    "coordinator/upstream/heartbeat.py": {
        "requests": "coordinator.upstream.heartbeat must not import requests",
        "redis": "coordinator.upstream.heartbeat must not import redis",
        "sqlalchemy": "coordinator.upstream.heartbeat must not import sqlalchemy",
    },
    "coordinator/leases/lease.py": {
        "coordinator.scheduling.placing": "coordinator.leases is not allowed to import coordinator.scheduling",
    },
    "sheepfold/protocol/writing.py": {"time": "sheepfold.protocol.writing must not import time"},
    "sheepfold/units.py": {"render_tasks.settings": "sheepfold.units -> render_tasks.settings"},
    "render_tasks/archives/piece_picker.py": {"time": "render_tasks.archives.piece_picker must not import time"},
    "render_tasks/orders/node.py": {
        "sheepfold.protocol.messages": "render_tasks.orders.node -> sheepfold.protocol.messages",
        "boto3": "render_tasks.orders.node must not import boto3",
    },
}
NEW_MODULES = {
    f"{package}/brand_new.py": f"{package}.brand_new" for package in ("coordinator", "sheepfold", "lab", "render_tasks")
}


@pytest.fixture(scope="module")
def linter_output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy of the source with every probe in it."""
    folder = tmp_path_factory.mktemp("probed")
    copy_source(folder)
    for path, probes in PROBES.items():
        file = folder / path
        file.write_text(file.read_text() + "".join(f"\nimport {name}" for name in probes) + "\n")
    for path in NEW_MODULES:
        (folder / path).write_text("")
    code, output = lint(folder)
    assert code == 1
    return output


def copy_source(folder: Path) -> None:
    for package in (*PACKAGES, "tools"):
        shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", folder)


def lint(folder: Path) -> tuple[int, str]:
    """The linter run by itself in a folder: its exit code and its words in one line each."""
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as go; go()",
    ]
    done = subprocess.run(
        [*command, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_source_as_it_is_keeps_every_contract(tmp_path: Path) -> None:
    copy_source(tmp_path)
    code, output = lint(tmp_path)
    assert "0 broken" in output
    assert code == 0


@pytest.mark.parametrize("words", sorted({words for probes in PROBES.values() for words in probes.values()}))
def test_a_probe_is_named(linter_output: str, words: str) -> None:
    assert words in " ".join(linter_output.split())


@pytest.mark.parametrize("module", NEW_MODULES.values())
def test_a_new_module_without_a_layer_is_named(linter_output: str, module: str) -> None:
    assert module in linter_output
