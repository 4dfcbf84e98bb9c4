"""Real services for the tests of this tier."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from coordinator.embedded_redis import EmbeddedRedis
from coordinator.find_redis import NoRedis, find_redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real Redis of this test run's own."""
    try:
        find_redis(install=False)
    except NoRedis as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: EmbeddedRedis) -> str:
    """Where that Redis is; holds its password."""
    return redis_server.url
