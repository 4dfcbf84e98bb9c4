"""Worker processes on a real Redis."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.broker.errors import NoRedis
from coordinator.broker.redis_discovery import find_redis
from tests.support.nodes.worker_harness import WorkerHarness


@pytest.fixture(scope="session")
def redis_available() -> None:
    """Fails in CI, and skips on a laptop, where no Redis can be started."""
    try:
        find_redis()
    except NoRedis as error:
        pytest.fail(str(error)) if os.environ.get("CI") else pytest.skip(str(error))


@pytest.fixture
def own_node(redis_available: None, tmp_path: Path) -> Iterator[WorkerHarness]:
    """A node of this test's own, not yet started."""
    with contextlib.closing(WorkerHarness(tmp_path)) as node:
        yield node


@pytest.fixture(scope="module")
def node(redis_available: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerHarness]:
    """A running node that the tests of this file share; none of them ends it."""
    settings = {"SHEEPFOLD_SLOTS": "2", "SHEEPFOLD_TAGS": "fast, lab", "SHEEPFOLD_MEMORY_GB": "0.25"}
    with contextlib.closing(WorkerHarness(tmp_path_factory.mktemp("node"), **settings)) as node:
        yield node.start().until_ready()
