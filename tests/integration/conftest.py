"""Real services for the tests of this tier."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from coordinator.broker.embedded_redis import EmbeddedRedis
from coordinator.broker.errors import NoRedis
from coordinator.broker.redis_discovery import find_redis
from coordinator.upstream.client import ServerClient
from sheepfold.protocol.status import SignInStatus
from tests.support.servers.misbehaving_server import SIGN_IN, MisbehavingServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real Redis of this test run's own."""
    try:
        find_redis()
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


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    running = MisbehavingServer()
    yield running
    running.stop()


@pytest.fixture
def client(server: MisbehavingServer) -> Iterator[ServerClient]:
    client = ServerClient(server.url, connect_timeout_s=2, read_timeout_s=2, answer_deadline_s=4)
    yield client
    client.close()


@pytest.fixture
def signed_in(client: ServerClient) -> ServerClient:
    assert client.sign_in(SIGN_IN).status == SignInStatus.OK
    return client
