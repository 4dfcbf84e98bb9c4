"""A ledger on disk for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.leases.ledger import Ledger
from tests.support.coordinator.builders import open_ledger
from tests.support.coordinator.ledger_harness import TickingClock


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(ledger_path: Path) -> Iterator[Ledger]:
    opened = open_ledger(ledger_path, TickingClock())
    yield opened
    opened.database.close()
