"""A lab server for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.servers.running_lab import picture, running_lab


@pytest.fixture
def lab(tmp_path: Path):
    with running_lab(tmp_path, faults=True, min_version="3.3.1700", max_period_s=100, lease_grace_s=10) as lab:
        yield lab


@pytest.fixture
def png(tmp_path: Path) -> bytes:
    return picture(tmp_path)
