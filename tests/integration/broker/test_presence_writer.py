"""A node's own thread that keeps its presence record in a real Redis."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis

from coordinator.nodes.registry import connect
from render_tasks.presence import PresenceWriter
from sheepfold.contract.codec import from_json
from sheepfold.contract.presence import NODE_SILENT_AFTER_S, PRESENCE_LEFT, Presence, presence_key
from tests.support.coordinator.fakes import node

KEY = presence_key("n1")


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(redis_url)) as opened:
        opened.flushall()
        yield opened
        opened.execute_command("ACL", "DELUSER", "n1")


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def user_url(redis_url: str, client: redis.Redis) -> str:
    """Where the node has a user of its own, that may write its own record and nothing else."""
    client.execute_command("ACL", "SETUSER", "n1", "on", ">secret", f"~{KEY}", "-@all", "+set", "+select")
    return f"redis://n1:secret@127.0.0.1:{urlsplit(redis_url).port}/0"


def a_writer(url: str, asked: list[str]) -> PresenceWriter:
    return PresenceWriter(url, "n1", lambda: node("n1"), lambda: asked.append("again"))


def test_a_record_needs_no_more_than_set_on_the_nodes_own_key_and_expires(
    user_url: str, client: redis.Redis, asked: list[str]
) -> None:
    writer = a_writer(user_url, asked)
    assert writer.write_once()
    assert writer.write_once()
    assert from_json(Presence, client.get(KEY)) == node("n1")
    assert 0 < client.ttl(KEY) <= NODE_SILENT_AFTER_S
    assert asked == []


def test_a_node_that_leaves_says_so(user_url: str, client: redis.Redis, asked: list[str]) -> None:
    writer = a_writer(user_url, asked)
    writer.start()
    writer.stop()
    assert client.get(KEY) == PRESENCE_LEFT.encode()
    assert 0 < client.ttl(KEY) <= NODE_SILENT_AFTER_S


def test_a_node_whose_user_is_gone_asks_the_coordinator_at_once_and_tells_it_once(
    user_url: str, client: redis.Redis, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    writer = a_writer(user_url, asked)
    assert writer.write_once()
    client.execute_command("ACL", "DELUSER", "n1")
    with caplog.at_level(logging.WARNING):
        refused = [writer.write_once() for _ in range(3)]
    assert not any(refused)
    assert asked
    assert len(caplog.records) == 1


def test_a_node_whose_record_redis_lost_joins_again(user_url: str, client: redis.Redis, asked: list[str]) -> None:
    writer = a_writer(user_url, asked)
    assert writer.write_once()
    client.delete(KEY)
    assert writer.write_once()
    assert asked == ["again"]
    assert writer.write_once()
    assert asked == ["again"]
