"""What ``sheepfold doctor`` finds."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from render_tasks.blender.sandbox.facts import HostFacts
from render_tasks.startup import doctor, hardening
from render_tasks.startup.doctor import Finding, examine
from render_tasks.startup.pinned_farm import PinnedFarm
from sheepfold.contract.api_messages import JoinAnswer
from sheepfold.contract.signing import public_key_text
from tests.support.wire.contract_messages import KEY

BARE = HostFacts(system="linux", machine="x86_64", uid=1000)


@pytest.fixture(autouse=True)
def _pc_without_blender_or_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SHEEPFOLD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardening, "look_at_host", lambda: BARE)
    monkeypatch.setenv("SHEEPFOLD_WORK_DIR", str(tmp_path / "worker"))
    monkeypatch.setenv("SHEEPFOLD_BLENDER", "/no/blender")


def findings_with(monkeypatch: pytest.MonkeyPatch, **settings: str) -> dict[str, Finding]:
    for name, value in settings.items():
        monkeypatch.setenv(f"SHEEPFOLD_{name}", value)
    return {finding.what: finding for finding in examine()}


def test_settings_that_are_missing_are_named_and_the_rest_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings_with(monkeypatch)
    assert "SHEEPFOLD_COORDINATOR_URL, SHEEPFOLD_FARM_TOKEN" in found["settings"].says
    assert not found["settings"].is_fine
    assert {"sandbox", "work folder", "Redis"} <= found.keys()


def test_a_pc_without_a_sandbox_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings_with(monkeypatch)
    assert not found["sandbox"].is_fine
    assert "apt-get install bubblewrap" in found["sandbox"].says


def test_no_sandbox_is_not_fine_though_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings_with(
        monkeypatch, COORDINATOR_URL="http://127.0.0.1:1", FARM_TOKEN="t", SANDBOX="off", ALLOW_ROOT="1"
    )
    assert found["sandbox"] == Finding(what="sandbox", is_fine=False, says="none")
    assert found["Blender"] == Finding(
        what="Blender", is_fine=False, says="SHEEPFOLD_BLENDER: /no/blender is no program on this PC"
    )


def test_root_is_told_how_to_start_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    found = findings_with(monkeypatch, COORDINATOR_URL="http://127.0.0.1:1", FARM_TOKEN="t")
    assert "SHEEPFOLD_ALLOW_ROOT" in found["user"].says
    assert not found["user"].is_fine


def test_what_does_not_answer_is_told_and_what_does_is_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = f"127.0.0.1:{listener.getsockname()[1]}"
        found = findings_with(monkeypatch, REDIS_URL=f"redis://:secret@{there}/0")
        assert found["Redis"] == Finding(what="Redis", is_fine=True, says=f"{there} answers")
    gone = findings_with(monkeypatch, COORDINATOR_URL=f"http://{there}", FARM_TOKEN="t")
    assert not gone["Redis"].is_fine
    assert not gone["coordinator"].is_fine


def test_a_disk_with_little_space_is_not_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_SPACE", 1 << 60)
    assert not findings_with(monkeypatch)["work folder"].is_fine


def test_the_farm_this_pc_belongs_to_is_told_and_how_to_leave_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert findings_with(monkeypatch)["farm"].says.startswith("none yet")
    work_dir = tmp_path / "worker"
    work_dir.mkdir()
    answer = JoinAnswer(name="pc", redis_url="redis://h", queue="q", farm_id="f1", order_key=public_key_text(KEY))
    label = PinnedFarm(work_dir).accept(answer).label
    found = findings_with(monkeypatch)["farm"]
    assert found.is_fine
    assert found.says.startswith(f"{label}; if it was set up anew: sheepfold forget-farm")
