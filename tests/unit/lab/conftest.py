from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab.store_harness import StoreHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[StoreHarness]:
    harness = StoreHarness(tmp_path / "server")
    yield harness
    harness.store.close()
