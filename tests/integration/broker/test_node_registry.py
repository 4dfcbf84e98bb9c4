"""Who is on the LAN, with the records of nodes in a real Redis."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from coordinator.broker.redis_probe import free_port
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.registry import NAMED, NAMES, NodeRegistry, clean_name, connect, read_presence
from sheepfold.contract.codec import to_json
from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.orders import queue_of
from sheepfold.contract.presence import (
    NODE_SILENT_AFTER_S,
    PRESENCE_LEFT,
    Compute,
    NodeHardware,
    Presence,
    presence_key,
)
from tests.support.clocks import ManualClock

PC = NodeHardware(
    os="linux", bits="64bit", cpu_family="6", cpu_model="1", cpu_model_name="CPU", cpu_cores=8, ram=16 * 1024**3
)


def a_record(node_id: str, name: str = "pc", **fields: Any) -> Presence:
    presence = Presence(node_id=node_id, name=name, hardware=PC, slots=1, compute=Compute.CPU)
    return dataclasses.replace(presence, **fields)


class RegistryHarness:
    """Nodes that write their records."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self.client = redis_client

    def write(self, node_id: str, record: str | bytes | None = None, *, age_s: float = 0) -> None:
        """As a node that joined does; a record of a certain age has that much less life left."""
        self.client.hset(NAMES, node_id, "pc")
        text = to_json(a_record(node_id)) if record is None else record
        if age_s >= NODE_SILENT_AFTER_S:
            self.client.delete(presence_key(node_id))
        else:
            self.client.set(presence_key(node_id), text, px=int((NODE_SILENT_AFTER_S - age_s) * 1000))

    def goodbye(self, node_id: str) -> None:
        self.client.set(presence_key(node_id), PRESENCE_LEFT, ex=NODE_SILENT_AFTER_S)


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(redis_url)) as opened:
        opened.flushall()
        yield opened


@pytest.fixture
def harness(redis_client: redis.Redis) -> RegistryHarness:
    return RegistryHarness(redis_client)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry(redis_client: redis.Redis, clock: ManualClock) -> NodeRegistry:
    return NodeRegistry(redis_client, clock=clock)


@pytest.fixture
def settled_registry(registry: NodeRegistry, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> NodeRegistry:
    """Nodes that were looked at long enough for absence to mean something."""
    monkeypatch.setattr("coordinator.nodes.registry.CLOCK_JUMP_S", 10**9)
    registry.sweep()
    clock.now += NODE_SILENT_AFTER_S
    assert registry.sweep().settled
    return registry


def test_a_node_is_present_while_its_records_are_fresh(registry: NodeRegistry, harness: RegistryHarness) -> None:
    harness.write("n1")
    harness.write("n2", age_s=NODE_SILENT_AFTER_S - 3)
    harness.write("n3", age_s=NODE_SILENT_AFTER_S + 1)
    assert registry.present() == {"n1": a_record("n1"), "n2": a_record("n2")}


def test_a_node_whose_clock_redis_does_not_share_is_no_matter(registry: NodeRegistry, harness: RegistryHarness) -> None:
    harness.write("n1", age_s=-2)
    assert set(registry.present()) == {"n1"}


def test_a_new_record_replaces_the_old_one(registry: NodeRegistry, harness: RegistryHarness) -> None:
    harness.write("n1")
    registry.present()
    harness.write("n1", to_json(a_record("n1", accepting=False)))
    assert registry.present()["n1"].accepting is False


def test_a_sweep_tells_who_came_and_who_was_lost(settled_registry: NodeRegistry, harness: RegistryHarness) -> None:
    harness.write("n1")
    harness.write("n2")
    first = settled_registry.sweep()
    assert (set(first.present), first.returned, first.lost) == ({"n1", "n2"}, ("n1", "n2"), ())
    harness.write("n2", age_s=NODE_SILENT_AFTER_S + 1)
    second = settled_registry.sweep()
    assert (set(second.present), second.returned, second.lost) == ({"n1"}, (), ("n2",))
    harness.write("n2")
    assert settled_registry.sweep().returned == ("n2",)


def test_at_the_start_absence_proves_nothing(
    registry: NodeRegistry, harness: RegistryHarness, clock: ManualClock
) -> None:
    harness.write("n1", age_s=NODE_SILENT_AFTER_S + 1)
    assert (registry.sweep().settled, registry.sweep().present) == (False, {})


def test_a_goodbye_counts_at_once_even_when_silence_would_prove_nothing(
    registry: NodeRegistry, harness: RegistryHarness
) -> None:
    harness.write("n1")
    assert set(registry.sweep().present) == {"n1"}
    harness.goodbye("n1")
    after = registry.sweep()
    assert (after.present, after.lost, after.settled) == ({}, ("n1",), False)
    harness.write("n1")
    assert registry.sweep().returned == ("n1",)


def test_while_redis_was_away_nobody_is_lost(
    settled_registry: NodeRegistry, harness: RegistryHarness, clock: ManualClock
) -> None:
    harness.write("n1")
    settled_registry.sweep()
    gone = connect(f"redis://127.0.0.1:{free_port('127.0.0.1')}/0")
    real, settled_registry._look_script = settled_registry._look_script, gone.register_script("return 1")
    with pytest.raises(BrokerUnreachable):
        settled_registry.sweep()
    settled_registry._look_script = real
    harness.write("n1", age_s=60)
    after = settled_registry.sweep()
    assert (set(after.present), after.lost, after.settled) == ({"n1"}, (), False)
    clock.now += NODE_SILENT_AFTER_S
    later = settled_registry.sweep()
    assert (later.present, later.lost, later.settled) == ({}, ("n1",), True)


def test_a_jump_of_the_clock_makes_nobody_lost(
    settled_registry: NodeRegistry, harness: RegistryHarness, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.write("n1")
    settled_registry.sweep()
    monkeypatch.setattr("coordinator.nodes.registry.CLOCK_JUMP_S", 5)
    harness.write("n1", age_s=60)
    clock.now += 60
    after = settled_registry.sweep()
    assert (set(after.present), after.lost, after.settled) == ({"n1"}, (), False)


def test_a_node_that_is_lost_when_the_clock_is_set_back_does_not_live_on_for_an_hour(
    settled_registry: NodeRegistry, harness: RegistryHarness, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.write("n1")
    harness.write("n2")
    settled_registry.sweep()
    monkeypatch.setattr("coordinator.nodes.registry.CLOCK_JUMP_S", 5)
    clock.now += 3600  # ours went on, and Redis' did not
    harness.write("n1", age_s=-3600)
    harness.write("n2")
    after = settled_registry.sweep()
    assert (set(after.present), after.lost, after.settled) == ({"n1", "n2"}, (), False)
    clock.now += NODE_SILENT_AFTER_S
    settled_registry.sweep()
    assert harness.client.ttl(presence_key("n1")) <= NODE_SILENT_AFTER_S


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{",
        "[]",
        '"text"',
        "[" * 100_000,
        '{"node_id": "bad"}',
        to_json(a_record("other")),
        to_json(a_record("bad", slots=0)),
        to_json(a_record("bad", slots=10**9)),
        to_json(a_record("bad", name="pc\nERROR forged line")),
        to_json(a_record("bad", archives=("../x",))),
        to_json(a_record("bad")).replace('"slots":1', '"slots":"1"'),
        b"\xff\xfe\x00",
        "x" * 1_000_000,
    ],
    ids=range(14),
)
def test_a_hostile_or_old_record_hides_its_own_node_only_and_is_logged_once(
    registry: NodeRegistry, harness: RegistryHarness, caplog: pytest.LogCaptureFixture, record: str | bytes
) -> None:
    harness.write("good")
    harness.write("bad", record)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert set(registry.present()) == {"good"}
    assert len(caplog.records) <= 1
    assert all("\n" not in line.getMessage() and len(line.getMessage()) < 500 for line in caplog.records)


@pytest.mark.parametrize("node_id", ["", "../../x", "a b", "n\n1", "x" * 65, "é", "a:1"])
def test_a_hostile_node_id_is_nobody(node_id: str, harness: RegistryHarness) -> None:
    with pytest.raises(MalformedContract):
        read_presence(node_id, to_json(a_record(node_id)).encode())


def test_a_later_workers_unknown_fields_are_no_matter(registry: NodeRegistry, harness: RegistryHarness) -> None:
    harness.write("n1", json.dumps(json.loads(to_json(a_record("n1"))) | {"new": [1]}))
    assert set(registry.present()) == {"n1"}


def test_a_forgotten_node_loses_its_orders_and_its_record_and_nobody_elses(
    registry: NodeRegistry, harness: RegistryHarness, redis_client: redis.Redis
) -> None:
    for node_id in ("n1", "n10"):
        harness.write(node_id)
        redis_client.rpush(queue_of(node_id), "order")
        redis_client.rpush(f"{queue_of(node_id)}:9", "urgent")
    registry.forget("n1")
    assert set(registry.present()) == {"n10"}
    assert sorted(key.decode() for key in redis_client.keys("farm.*")) == ["farm.n10", "farm.n10:9"]


def test_pcs_of_one_name_are_numbered_and_keep_their_names(registry: NodeRegistry) -> None:
    assert [registry.unique_name(f"n{n}", "pc") for n in range(3)] == ["pc", "pc-02", "pc-03"]
    assert [registry.unique_name(f"n{n}", "pc") for n in (2, 0, 1)] == ["pc-03", "pc", "pc-02"]


def test_a_node_that_wants_another_name_gets_it(registry: NodeRegistry) -> None:
    registry.unique_name("n1", "pc")
    assert registry.unique_name("n1", "render-box") == "render-box"
    assert registry.unique_name("n2", "pc") == "pc"


def test_a_name_with_a_number_of_its_own_is_not_taken_for_a_variant(registry: NodeRegistry) -> None:
    assert registry.unique_name("n1", "pc-02") == "pc-02"
    assert registry.unique_name("n2", "pc") == "pc"
    assert registry.unique_name("n3", "pc") == "pc-03"
    assert registry.unique_name("n4", "pc-02") == "pc-02-02"


def test_a_name_a_present_node_bears_is_taken_even_when_redis_forgot_it(
    registry: NodeRegistry, harness: RegistryHarness
) -> None:
    harness.write("n1", to_json(a_record("n1", name="pc")))
    registry.sweep()
    assert registry.unique_name("n2", "pc") == "pc-02"
    assert registry.unique_name("n1", "pc") == "pc"


def test_a_lost_node_finds_its_name_again_and_does_not_block_it_for_ever(
    registry: NodeRegistry, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.unique_name("n1", "pc")
    registry.forget("n1")
    assert registry.unique_name("n2", "pc") == "pc-02"
    assert registry.unique_name("n1", "pc") == "pc"
    redis_client.zadd(NAMED, {"n1": 1000})
    assert registry.unique_name("n3", "pc") == "pc"
    assert redis_client.hget(NAMES, "n1") is None


def test_a_classroom_that_joins_at_once_gets_as_many_names(redis_url: str, registry: NodeRegistry) -> None:
    with ThreadPoolExecutor(16) as pool:
        names = list(pool.map(lambda n: registry.unique_name(f"n{n}", "pc"), range(60)))
    assert len(set(names)) == 60
    assert set(names) == {"pc"} | {f"pc-{n:02d}" for n in range(2, 61)}


def test_long_names_stay_within_bounds_when_they_are_numbered(registry: NodeRegistry) -> None:
    names = [registry.unique_name(f"n{n}", "x" * 100) for n in range(120)]
    assert len(set(names)) == 120
    assert max(map(len, names)) == 40


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("PC-7.studio_b", "PC-7.studio_b"),
        ("Zoë's Rechner", "Zoe-s-Rechner"),
        ("a/../../b", "a-..-..-b"),
        ("..", "node"),
        ("", "node"),
        ("机器", "node"),
        ("pc\r\nSet-Cookie: x", "pc-Set-Cookie-x"),
    ],
)
def test_names_are_cleaned(wanted: str, name: str) -> None:
    assert clean_name(wanted) == name


@given(st.text(max_size=200))
def test_a_clean_name_stays_as_it_is(wanted: str) -> None:
    name = clean_name(wanted)
    assert clean_name(name) == name
    assert 0 < len(name) <= 40


def test_without_redis_every_call_says_so_in_bounded_time_and_without_its_address() -> None:
    port = free_port("127.0.0.1")
    registry = NodeRegistry(connect(f"redis://:secret@127.0.0.1:{port}/0"))
    began = time.monotonic()
    for call in (
        registry.present,
        registry.sweep,
        lambda: registry.forget("n1"),
        lambda: registry.unique_name("n1", "pc"),
    ):
        with pytest.raises(BrokerUnreachable) as caught:
            call()
        assert "secret" not in str(caught.value) + repr(caught.value)
        assert caught.value.__cause__ is None
    assert time.monotonic() - began < 5


def test_a_thousand_nodes_are_swept_quickly(
    registry: NodeRegistry, harness: RegistryHarness, redis_client: redis.Redis
) -> None:
    archives = tuple(f"{n:032x}" for n in range(20))
    records = {f"n{n}": to_json(a_record(f"n{n}", name=f"pc-{n}", archives=archives)) for n in range(1000)}
    redis_client.hset(NAMES, mapping=dict.fromkeys(records, "pc"))
    pipe = redis_client.pipeline()
    for node_id, record in records.items():
        pipe.set(presence_key(node_id), record, ex=NODE_SILENT_AFTER_S)
    pipe.execute()
    began = time.process_time()
    assert len(registry.sweep().present) == 1000
    first = time.process_time() - began
    registry.sweep()
    again = time.process_time() - began - first
    print(f"first sweep {first * 1000:.0f} ms, unchanged records {again * 1000:.0f} ms")
    assert again < first


def test_orders_that_wait_are_counted_for_each_node(registry: NodeRegistry, redis_client: redis.Redis) -> None:
    redis_client.rpush(queue_of("n1"), "order", "order")
    assert registry.waiting_orders(["n1", "n2"]) == {"n1": 2, "n2": 0}
    assert registry.waiting_orders([]) == {}


def test_redis_says_what_time_it_is_or_nothing(registry: NodeRegistry) -> None:
    before = time.time()
    told = registry.redis_time()
    assert told is not None
    assert before - 1 < told < time.time() + 1
    with contextlib.closing(connect("redis://127.0.0.1:1/0")) as nowhere:
        assert NodeRegistry(nowhere).redis_time() is None
