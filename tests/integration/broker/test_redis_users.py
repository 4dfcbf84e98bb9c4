"""The users that the coordinator makes in a real Redis: what they may, what they may not, when they come and go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from coordinator.broker.embedded_redis import EmbeddedRedis
from coordinator.broker.errors import NoUserForEachNode
from coordinator.broker.redis_users import AWAY_S, TIDY_EVERY_S
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.registry import NAMED, NAMES
from sheepfold.contract.orders import queue_of
from sheepfold.contract.presence import presence_key
from tests.support.nodes.redis_users import UsersHarness


@pytest.fixture
def farm(redis_url: str, tmp_path: Path) -> Iterator[UsersHarness]:
    with contextlib.closing(UsersHarness(redis_url, tmp_path)) as harness:
        harness.client.flushall()
        harness.users.open()
        harness.client.acl_log_reset()
        yield harness
        harness.client.flushall()


def as_user(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))


def connections_of(farm: UsersHarness, user: str) -> list[str]:
    return [client["id"] for client in farm.client.client_list() if client["user"] == user]


@pytest.fixture
def node(farm: UsersHarness) -> Iterator[redis.Redis]:
    """The node `n1` called `pc`; `n10` called `pc-02`, whose names begin like its own, is another one."""
    farm.admit("n10", "pc-02")
    with contextlib.closing(as_user(farm.admit("n1", "pc"))) as client:
        yield client


@pytest.mark.parametrize("priority", ["", ":1", ":9"])
def test_a_node_takes_orders_from_its_own_queue(farm: UsersHarness, node: redis.Redis, priority: str) -> None:
    farm.client.lpush(queue_of("n1") + priority, "order")
    assert node.llen(queue_of("n1") + priority) == 1
    assert node.brpop([queue_of("n1"), queue_of("n1") + (priority or ":1")], 1)[1] == b"order"


def test_a_node_writes_its_own_presence_and_hears_the_control_channel(farm: UsersHarness, node: redis.Redis) -> None:
    node.set(presence_key("n1"), "{}", ex=15, get=True)
    with node.pubsub() as listener:
        listener.psubscribe("/0.celery.pidbox")
        assert listener.get_message(timeout=5)["type"] == "psubscribe"
        farm.client.publish("/0.celery.pidbox", "cancel")
        assert listener.get_message(timeout=5)["data"] == b"cancel"
    node.publish("/0.celeryev/worker.heartbeat", "{}")
    assert farm.client.acl_log() == []


REFUSED: dict[str, Callable[[redis.Redis], object]] = {
    "takes another node's order": lambda node: node.brpop([queue_of("n10")], 1),
    "takes another node's order by priority": lambda node: node.brpop([queue_of("n10") + ":9"], 1),
    "sends an order to itself": lambda node: node.lpush(queue_of("n1"), "order"),
    "sends an order to another": lambda node: node.lpush(queue_of("n10"), "order"),
    "deletes another's queue": lambda node: node.delete(queue_of("n10")),
    "renames its own queue": lambda node: node.rename(queue_of("n1"), queue_of("n10")),
    "writes another's presence": lambda node: node.set(presence_key("n10"), "{}"),
    "reads another's presence": lambda node: node.get(presence_key("n10")),
    "deletes another's presence": lambda node: node.delete(presence_key("n10")),
    "lets its presence live for ever": lambda node: node.persist(presence_key("n1")),
    "writes the names": lambda node: node.hset(NAMES, "n10", "mine"),
    "writes the times of names": lambda node: node.zadd(NAMED, {"n10": 0}),
    "takes the farm": lambda node: node.set("sheepfold:coordinator", "{}"),
    "reads who has the farm": lambda node: node.get("sheepfold:coordinator"),
    "cancels": lambda node: node.publish("/0.celery.pidbox", "{}"),
    "hears another channel": lambda node: node.execute_command("SUBSCRIBE", "/0.celeryev/worker.heartbeat"),
    "hears every channel": lambda node: node.execute_command("PSUBSCRIBE", "*"),
    "hears what happens to keys": lambda node: node.execute_command("PSUBSCRIBE", "__key*__:*"),
    "binds a queue": lambda node: node.sadd("_kombu.binding.reply.celery.pidbox", "x"),
    "reads an answer to a ping": lambda node: node.brpop(["a.reply.celery.pidbox"], 1),
    "KEYS": lambda node: node.keys("*"),
    "SCAN": lambda node: node.scan(),
    "CONFIG GET": lambda node: node.config_get("*"),
    "CONFIG SET": lambda node: node.config_set("dir", "/tmp"),
    "FLUSHALL": lambda node: node.flushall(),
    "FLUSHDB": lambda node: node.flushdb(),
    "MONITOR": lambda node: node.execute_command("MONITOR"),
    "INFO": lambda node: node.info(),
    "SCRIPT FLUSH": lambda node: node.script_flush(),
    "SCRIPT LOAD": lambda node: node.script_load("return 1"),
    "EVAL on its own key": lambda node: node.eval("return 1", 1, presence_key("n1")),
    "EVAL on another's": lambda node: node.eval("return redis.call('GET', KEYS[1])", 1, presence_key("n10")),
    "EVAL on a key it does not name": lambda node: node.eval("return redis.call('GET', 'sheepfold:names')", 0),
    "FUNCTION": lambda node: node.execute_command("FUNCTION", "LIST"),
    "ACL LIST": lambda node: node.acl_list(),
    "ACL SETUSER": lambda node: node.execute_command("ACL", "SETUSER", "sheepfold-node-n1", "+@all"),
    "CLIENT LIST": lambda node: node.client_list(),
    "CLIENT KILL": lambda node: node.client_kill_filter(_type="normal"),
    "CLIENT PAUSE": lambda node: node.client_pause(100),
    "REPLICAOF": lambda node: node.execute_command("REPLICAOF", "127.0.0.1", "1"),
    "MODULE": lambda node: node.execute_command("MODULE", "LIST"),
    "SHUTDOWN": lambda node: node.execute_command("SHUTDOWN", "NOSAVE"),
    "SAVE": lambda node: node.execute_command("SAVE"),
    "MIGRATE": lambda node: node.migrate("127.0.0.1", 1, queue_of("n1"), 0, 1),
    "DUMP": lambda node: node.dump(presence_key("n1")),
    "SORT": lambda node: node.sort(queue_of("n1"), by="sheepfold:*"),
    "OBJECT": lambda node: node.object("encoding", presence_key("n10")),
}


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED.keys())
def test_whatever_is_not_a_nodes_own_is_refused(
    farm: UsersHarness, node: redis.Redis, attempt: Callable[[redis.Redis], object]
) -> None:
    farm.client.lpush(queue_of("n10"), "order")
    farm.client.set(presence_key("n10"), "here")
    with pytest.raises(redis.exceptions.NoPermissionError):
        attempt(node)
    assert farm.client.lrange(queue_of("n10"), 0, -1) == [b"order"]
    assert farm.client.get(presence_key("n10")) == b"here"


def test_without_its_password_nobody_is_that_node(farm: UsersHarness) -> None:
    url = farm.admit("n1", "pc")
    wrong = url.replace(urlsplit(url).password or "", "guess")
    user = "sheepfold-node-n1"
    for address in (wrong, url.replace(user, "sheepfold-node-n10"), url.replace(user, "")):
        with contextlib.closing(as_user(address)) as client, pytest.raises(redis.AuthenticationError):
            client.set(presence_key("n1"), "{}")


def test_a_node_has_the_same_login_at_every_join_and_another_worker_has_another(farm: UsersHarness) -> None:
    first = farm.admit("n1", "pc")
    farm.restart()
    assert farm.admit("n1", "pc") == first
    assert urlsplit(farm.admit("n2", "pc-02")).password != urlsplit(first).password
    assert urlsplit(first).password not in str(farm.client.acl_list())


def test_a_node_that_joins_again_keeps_its_connections(farm: UsersHarness, node: redis.Redis) -> None:
    node.set(presence_key("n1"), "{}")
    before = connections_of(farm, "sheepfold-node-n1")
    farm.admit("n1", "pc")
    node.set(presence_key("n1"), "{}")
    assert before == connections_of(farm, "sheepfold-node-n1") != []


def test_a_user_that_is_ended_is_cut_off_at_once(farm: UsersHarness, node: redis.Redis) -> None:
    node.set(presence_key("n1"), "{}")
    farm.users.end("n1")
    assert connections_of(farm, "sheepfold-node-n1") == []
    with pytest.raises(redis.AuthenticationError):
        as_user(farm.admit("n10", "pc-02").replace("-n10", "-n1")).ping()
    with pytest.raises((redis.ConnectionError, redis.AuthenticationError)):
        node.set(presence_key("n1"), "{}")


def test_users_of_nodes_that_are_gone_end_and_of_those_that_are_here_stay(farm: UsersHarness) -> None:
    farm.admit("here", "pc")
    farm.admit("gone", "pc-02")
    for _ in range(round(AWAY_S / TIDY_EVERY_S)):
        farm.users.look_once({"here"})
        assert farm.node_users() == {"sheepfold-node-here", "sheepfold-node-gone"}
        farm.clock.now += TIDY_EVERY_S
    farm.clock.now += TIDY_EVERY_S
    farm.users.look_once({"here"})
    assert farm.node_users() == {"sheepfold-node-here"}


def test_a_user_that_nobody_joined_for_ends(farm: UsersHarness) -> None:
    farm.client.execute_command("ACL", "SETUSER", "sheepfold-node-left-over", "on", "nopass", "+@all")
    farm.users.end("n1")
    farm.users.look_once(())
    assert farm.node_users() == set()


def test_redis_that_was_started_anew_has_the_users_again(tmp_path: Path, redis_server: EmbeddedRedis) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, contextlib.closing(UsersHarness(server.url, tmp_path)) as farm:
        farm.users.open()
        urls = [farm.admit("n1", "pc"), farm.users.flower_login("127.0.0.1")]
        server.stop()
        farm.users.look_once(())
        server.start()
        assert farm.node_users() == set()
        farm.users.look_once(())
        assert farm.node_users() == {"sheepfold-node-n1"}
        for url in urls:
            with contextlib.closing(as_user(url)) as client:
                assert client.ping()


def test_a_coordinator_that_was_started_anew_makes_the_users_of_all_it_knows(farm: UsersHarness) -> None:
    farm.admit("n1", "pc")
    farm.named.of["unknown"] = "pc-02"
    farm.client.acl_deluser("sheepfold-node-n1")
    farm.restart()
    assert farm.node_users() == {"sheepfold-node-n1"}


@pytest.fixture
def limited_url(redis_url: str, farm: UsersHarness) -> Iterator[str]:
    """A login that may do all but make users."""
    farm.client.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-acl")
    yield f"redis://limited:secret@127.0.0.1:{urlsplit(redis_url).port}/0"
    farm.client.acl_deluser("limited")


def test_a_login_that_makes_no_users_is_refused_and_the_operator_hears_what_to_do(
    limited_url: str, tmp_path: Path
) -> None:
    farm = UsersHarness(limited_url, tmp_path / "limited")
    with pytest.raises(NoUserForEachNode, match=r"Redis 7.*SHEEPFOLD_REDIS_URL.*SHEEPFOLD_SHARED_REDIS_LOGIN=1"):
        farm.users.open()
    farm.ledger.database.close()


def test_a_shared_login_has_to_be_allowed_and_is_told_once(
    limited_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    farm = UsersHarness(limited_url, tmp_path / "limited", may_share=True)
    farm.users.open()
    assert farm.admit("n1", "pc") == farm.users.flower_login("127.0.0.1") == limited_url
    farm.users.look_once(())
    farm.users.end("n1")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "secret" not in caplog.text
    farm.ledger.database.close()


def test_a_redis_that_is_away_is_no_reason_to_share_a_login(tmp_path: Path) -> None:
    farm = UsersHarness("redis://u:p@127.0.0.1:1/0", tmp_path, may_share=True)
    with pytest.raises(BrokerUnreachable):
        farm.users.open()
    with pytest.raises(BrokerUnreachable):
        farm.admit("n1", "pc")
    farm.users.look_once(())
    farm.ledger.database.close()


def test_flower_listens_and_pings_and_changes_nothing(farm: UsersHarness) -> None:
    with contextlib.closing(as_user(farm.users.flower_login("127.0.0.1"))) as flower:
        flower.publish("/0.celery.pidbox", "ping")
        with flower.pubsub() as listener:
            listener.psubscribe("/0.celeryev/*")
            assert listener.get_message(timeout=5)["type"] == "psubscribe"
        assert flower.llen(queue_of("n1")) == 0
        for attempt in (
            lambda: flower.lpush(queue_of("n1"), "order"),
            lambda: flower.brpop([queue_of("n1")], 1),
            lambda: flower.get(presence_key("n1")),
            lambda: flower.set(presence_key("n1"), "{}"),
            lambda: flower.keys("*"),
            lambda: flower.config_get("*"),
            lambda: flower.flushall(),
            lambda: flower.acl_list(),
            lambda: flower.eval("return redis.call('GET', KEYS[1])", 1, presence_key("n1")),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                attempt()
