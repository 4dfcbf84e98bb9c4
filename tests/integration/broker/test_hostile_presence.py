"""A node may write anything into its own presence key: it hides itself alone, and costs the coordinator nothing."""

from __future__ import annotations

import contextlib
import logging
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import redis

from coordinator.nodes.registry import NAMES, NodeRegistry, connect
from sheepfold.contract.codec import to_json
from sheepfold.contract.presence import NODE_SILENT_AFTER_S, presence_key
from tests.support.coordinator.fakes import node

MB = 1024**2


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(redis_url)) as opened:
        opened.flushall()
        opened.hset(NAMES, mapping={"good": "pc-1", "bad": "pc-2"})
        opened.set(presence_key("good"), to_json(node("good")), ex=NODE_SILENT_AFTER_S)
        yield opened
        opened.flushall()


def _huge(client: redis.Redis, key: str) -> None:
    client.setrange(key, 30 * MB, b"x")


HOSTILE: dict[str, Callable[[redis.Redis, str], object]] = {
    "a hash": lambda client, key: client.hset(key, "bad", to_json(node("bad"))),
    "a list": lambda client, key: client.rpush(key, "x"),
    "a set": lambda client, key: client.sadd(key, "x"),
    "a sorted set": lambda client, key: client.zadd(key, {"x": 1}),
    "a stream": lambda client, key: client.xadd(key, {"x": "1"}),
    "30 MB": _huge,
    "deep JSON": lambda client, key: client.set(key, "[" * 400_000),
    "not JSON": lambda client, key: client.set(key, b"\xff\x00{"),
    "a number": lambda client, key: client.set(key, "5"),
    "another node's record": lambda client, key: client.set(key, to_json(node("good"))),
}


@pytest.mark.parametrize("expires", [True, False], ids=["expires", "never expires"])
@pytest.mark.parametrize("write", HOSTILE.values(), ids=HOSTILE.keys())
def test_whatever_a_node_writes_hides_it_alone_and_is_told_once(
    client: redis.Redis,
    write: Callable[[redis.Redis, str], object],
    expires: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(client, presence_key("bad"))
    if expires:
        client.expire(presence_key("bad"), NODE_SILENT_AFTER_S)
    nodes = NodeRegistry(client)
    tracemalloc.start()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert set(nodes.sweep().present) == {"good"}
        assert tracemalloc.get_traced_memory()[1] < 8 * MB
    finally:
        tracemalloc.stop()
    assert len(caplog.records) == 1
    assert "'bad'" in caplog.text
    assert len(caplog.text) < 500


@pytest.mark.parametrize("life_s", [None, 3600])
def test_a_record_never_outlives_its_node_for_long(client: redis.Redis, life_s: int | None) -> None:
    client.set(presence_key("bad"), to_json(node("bad")), ex=life_s)
    NodeRegistry(client).sweep()
    assert 0 < client.ttl(presence_key("bad")) <= NODE_SILENT_AFTER_S


def test_a_node_whose_record_is_right_again_is_present_again(client: redis.Redis) -> None:
    client.rpush(presence_key("bad"), "x")
    nodes = NodeRegistry(client)
    assert set(nodes.sweep().present) == {"good"}
    client.delete(presence_key("bad"))
    client.set(presence_key("bad"), to_json(node("bad")), ex=NODE_SILENT_AFTER_S)
    assert set(nodes.sweep().present) == {"good", "bad"}


def test_a_key_of_nobody_who_joined_is_nobody(client: redis.Redis) -> None:
    client.set(presence_key("stranger"), to_json(node("stranger")), ex=NODE_SILENT_AFTER_S)
    assert set(NodeRegistry(client).sweep().present) == {"good"}


def test_nodes_stay_present_when_redis_loses_the_list_of_them(client: redis.Redis) -> None:
    nodes = NodeRegistry(client)
    assert set(nodes.sweep().present) == {"good"}
    client.delete(NAMES)
    after = nodes.sweep()
    assert (set(after.present), after.lost) == ({"good"}, ())
    assert client.hget(NAMES, "good") == b"good"
