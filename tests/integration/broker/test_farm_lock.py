"""One coordinator for each farm, on a real Redis."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator

import pytest
import redis

from coordinator.broker.errors import FarmLocked
from coordinator.broker.farm_lock import FARM_LOCK_KEY, FARM_LOCK_S, RENEW_EVERY_S, FarmLock
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.nodes.registry import connect

pytestmark = pytest.mark.redis


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    connected = connect(redis_url)
    connected.delete(FARM_LOCK_KEY)
    yield connected
    connected.delete(FARM_LOCK_KEY)
    connected.close()


def record(redis_client: redis.Redis) -> dict:
    return json.loads(redis_client.get(FARM_LOCK_KEY) or b"null")  # type: ignore[arg-type]


def expire(redis_client: redis.Redis) -> None:
    """The holder died long enough ago."""
    redis_client.pexpire(FARM_LOCK_KEY, 1)
    while redis_client.exists(FARM_LOCK_KEY):
        pass


def test_the_first_one_takes_the_farm_for_a_while(redis_client: redis.Redis) -> None:
    FarmLock(redis_client, lambda: "a").take()
    assert record(redis_client).items() >= {"farm_id": "a", "host": socket.gethostname(), "pid": os.getpid()}.items()
    assert FARM_LOCK_S * 1000 - 5000 < int(redis_client.pttl(FARM_LOCK_KEY)) <= FARM_LOCK_S * 1000  # type: ignore[arg-type]


def test_a_second_one_is_refused_and_told_who_the_first_is(redis_client: redis.Redis) -> None:
    FarmLock(redis_client, lambda: "a").take()
    before = record(redis_client)
    with pytest.raises(FarmLocked) as refused:
        FarmLock(redis_client, lambda: "b").take()
    assert socket.gethostname() in str(refused.value)
    assert str(os.getpid()) in str(refused.value)
    assert "SHEEPFOLD_REDIS_URL" in str(refused.value)
    assert refused.value.holder.farm_id == "a"
    assert record(redis_client) == before


def test_a_refused_one_does_not_lengthen_the_first_ones_time(redis_client: redis.Redis) -> None:
    FarmLock(redis_client, lambda: "a").take()
    redis_client.pexpire(FARM_LOCK_KEY, 5000)
    with pytest.raises(FarmLocked):
        FarmLock(redis_client, lambda: "b").take()
    assert int(redis_client.pttl(FARM_LOCK_KEY)) <= 5000  # type: ignore[arg-type]


def test_a_coordinator_with_the_same_ledger_follows_at_once(redis_client: redis.Redis) -> None:
    FarmLock(redis_client, lambda: "a").take()
    FarmLock(redis_client, lambda: "a").take()
    assert record(redis_client)["farm_id"] == "a"


def test_renewing_lengthens_our_own_time(redis_client: redis.Redis) -> None:
    lock = FarmLock(redis_client, lambda: "a")
    lock.take()
    redis_client.pexpire(FARM_LOCK_KEY, 5000)
    assert lock.renew_once() == RENEW_EVERY_S
    assert int(redis_client.pttl(FARM_LOCK_KEY)) > 5000  # type: ignore[arg-type]
    assert RENEW_EVERY_S * 4 <= FARM_LOCK_S, "some renewals may be lost"


def test_when_the_first_has_died_another_one_begins(redis_client: redis.Redis) -> None:
    FarmLock(redis_client, lambda: "a").take()
    expire(redis_client)
    FarmLock(redis_client, lambda: "b").take()
    assert record(redis_client)["farm_id"] == "b"
    assert FARM_LOCK_S < 30, "promised are 30 s"


def test_one_that_was_followed_learns_it_at_its_next_renewal(redis_client: redis.Redis) -> None:
    first = FarmLock(redis_client, lambda: "a")
    first.take()
    expire(redis_client)
    FarmLock(redis_client, lambda: "b").take()
    with pytest.raises(FarmLocked) as followed:
        first.renew_once()
    assert followed.value.holder.farm_id == "b"


def test_after_a_release_the_next_one_begins_at_once(redis_client: redis.Redis) -> None:
    first = FarmLock(redis_client, lambda: "a")
    first.take()
    first.release()
    assert not redis_client.exists(FARM_LOCK_KEY)
    FarmLock(redis_client, lambda: "b").take()


def test_one_that_was_followed_releases_nothing_of_the_others(redis_client: redis.Redis) -> None:
    first = FarmLock(redis_client, lambda: "a")
    first.take()
    expire(redis_client)
    FarmLock(redis_client, lambda: "b").take()
    first.release()
    assert record(redis_client)["farm_id"] == "b"


def test_a_redis_that_lost_its_data_is_taken_again(redis_client: redis.Redis) -> None:
    lock = FarmLock(redis_client, lambda: "a")
    lock.take()
    redis_client.delete(FARM_LOCK_KEY)
    lock.renew_once()
    assert record(redis_client)["farm_id"] == "a"


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"3", b"[]", b"\xff"])
def test_a_record_nobody_can_read_holds_nobody_up(redis_client: redis.Redis, text: bytes) -> None:
    redis_client.set(FARM_LOCK_KEY, text)
    lock = FarmLock(redis_client, lambda: "a")
    if text == b"[]":
        # An object without a farm is somebody's, as far as anyone can tell.
        with pytest.raises(FarmLocked, match="an unknown host"):
            lock.take()
        return
    lock.take()
    assert record(redis_client)["farm_id"] == "a"


@pytest.mark.parametrize("text", [b"{", b"3", b"null"])
def test_releasing_never_raises(redis_client: redis.Redis, text: bytes) -> None:
    redis_client.set(FARM_LOCK_KEY, text)
    FarmLock(redis_client, lambda: "a").release()
    redis_client.delete(FARM_LOCK_KEY)
    FarmLock(redis_client, lambda: "a").release()


# Without Redis


@pytest.fixture
def unreachable_redis() -> Iterator[redis.Redis]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        redis_client = connect(f"redis://:s3cret@127.0.0.1:{free.getsockname()[1]}/0")
        yield redis_client
        redis_client.close()


def test_without_redis_a_farm_cannot_begin(unreachable_redis: redis.Redis) -> None:
    with pytest.raises(BrokerUnreachable) as down:
        FarmLock(unreachable_redis, lambda: "a").take()
    assert "s3cret" not in str(down.value)


def test_redis_being_away_is_no_reason_to_give_up_and_is_said_once(
    unreachable_redis: redis.Redis, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    lock = FarmLock(unreachable_redis, lambda: "a")
    for _ in range(3):
        assert lock.renew_once() == RENEW_EVERY_S
    assert [logged.levelno for logged in caplog.records] == [logging.WARNING]
    lock._redis = redis_client
    lock.renew_once()
    assert record(redis_client)["farm_id"] == "a"
    lock._redis = unreachable_redis
    lock.renew_once()
    assert len(caplog.records) == 2, "the next outage is told again"


def test_a_release_without_redis_is_only_said(unreachable_redis: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    FarmLock(unreachable_redis, lambda: "a").release()
    assert [logged.levelno for logged in caplog.records] == [logging.WARNING]
