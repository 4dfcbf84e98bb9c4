"""Farms of real processes that one fault after another happens to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.farm.faulty_farm import TWO_PCS, FaultyFarm


@pytest.fixture
def own_farm(tmp_path: Path) -> Iterator[FaultyFarm]:
    """A farm of this test's own; none of its processes was started."""
    farm = FaultyFarm(tmp_path)
    try:
        yield farm
    finally:
        farm.end()


@pytest.fixture(scope="module")
def shared_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    """Server, coordinator and two PCs for all tests of a file."""
    farm = FaultyFarm(tmp_path_factory.mktemp("farm"))
    try:
        farm.begin(*TWO_PCS)
        yield farm
    finally:
        farm.end()


@pytest.fixture
def farm(shared_farm: FaultyFarm) -> FaultyFarm:
    """The shared farm with all its processes and nothing to do."""
    shared_farm.calm_down(*TWO_PCS)
    return shared_farm
