"""Logs of failed attempts stay where an operator finds them, and never more than there is room for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.delivery.failure_logs import FailureLogs
from coordinator.leases.lease import Lease
from sheepfold.contract.api_messages import FailureKind, FailureReport
from tests.support.coordinator.builders import offer

REPORT = FailureReport(
    kind=FailureKind.NO_OUTPUT, reason="Cannot render, no camera", log="Blender 3.4\nError: no camera"
)
LEASE = Lease(id="abc", session_key="k", offer=offer(), attempt=1)


def test_the_log_begins_with_the_reason_and_names_frame_and_pc(tmp_path: Path) -> None:
    path = FailureLogs(tmp_path / "logs").open().put(LEASE, REPORT, "pc-01")
    assert path is not None
    first, second, *rest = path.read_text().splitlines()
    assert first == "no output file: Cannot render, no camera"
    assert LEASE.label in second
    assert "pc-01" in second
    assert "Error: no camera" in rest


def test_the_latest_failed_attempt_is_found_also_after_a_restart(tmp_path: Path) -> None:
    logs = FailureLogs(tmp_path).open()
    logs.put(LEASE, REPORT, "pc-01")
    latest = logs.put(replace(LEASE, attempt=2), REPORT, "pc-02")
    now = replace(LEASE, attempt=4)
    assert logs.last_of(now) == latest == FailureLogs(tmp_path).open().last_of(now)
    assert logs.last_of(replace(LEASE, id="other")) is None


@pytest.mark.parametrize("limit", [{"max_logs": 2}, {"max_bytes": 300}])
def test_the_oldest_logs_go_when_there_are_too_many(tmp_path: Path, limit: dict[str, int]) -> None:
    logs = FailureLogs(tmp_path, **limit).open()
    for number in range(5):
        logs.put(replace(LEASE, id=f"lease{number}"), REPORT, "pc-01")
    assert logs.last_of(replace(LEASE, id="lease0")) is None
    assert logs.last_of(replace(LEASE, id="lease4")) is not None
    assert 1 <= len(list(tmp_path.glob("*.log"))) <= 2


def test_a_full_disk_costs_the_log_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = FailureLogs(tmp_path).open()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert logs.put(LEASE, REPORT, "pc-01") is None
    assert list(tmp_path.iterdir()) == []
    assert logs.last_of(LEASE) is None
