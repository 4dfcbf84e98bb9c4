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
def client(redis_url: str) -> Iterator[redis.Redis]:
    connected = connect(redis_url)
    connected.delete(FARM_LOCK_KEY)
    yield connected
    connected.delete(FARM_LOCK_KEY)
    connected.close()


def record(client: redis.Redis) -> dict:
    return json.loads(client.get(FARM_LOCK_KEY) or b"null")  # type: ignore[arg-type]


def expire(client: redis.Redis) -> None:
    """The holder died long enough ago."""
    client.pexpire(FARM_LOCK_KEY, 1)
    while client.exists(FARM_LOCK_KEY):
        pass


def test_the_first_one_takes_the_farm_for_a_while(client: redis.Redis) -> None:
    FarmLock(client, lambda: "a").take()
    assert record(client).items() >= {"farm_id": "a", "host": socket.gethostname(), "pid": os.getpid()}.items()
    assert FARM_LOCK_S * 1000 - 5000 < int(client.pttl(FARM_LOCK_KEY)) <= FARM_LOCK_S * 1000  # type: ignore[arg-type]


def test_a_second_one_is_refused_and_told_who_the_first_is(client: redis.Redis) -> None:
    FarmLock(client, lambda: "a").take()
    before = record(client)
    with pytest.raises(FarmLocked) as refused:
        FarmLock(client, lambda: "b").take()
    assert socket.gethostname() in str(refused.value)
    assert str(os.getpid()) in str(refused.value)
    assert "SHEEPFOLD_REDIS_URL" in str(refused.value)
    assert refused.value.holder.farm_id == "a"
    assert record(client) == before


def test_a_refused_one_does_not_lengthen_the_first_ones_time(client: redis.Redis) -> None:
    FarmLock(client, lambda: "a").take()
    client.pexpire(FARM_LOCK_KEY, 5000)
    with pytest.raises(FarmLocked):
        FarmLock(client, lambda: "b").take()
    assert int(client.pttl(FARM_LOCK_KEY)) <= 5000  # type: ignore[arg-type]


def test_a_coordinator_with_the_same_ledger_follows_at_once(client: redis.Redis) -> None:
    FarmLock(client, lambda: "a").take()
    FarmLock(client, lambda: "a").take()
    assert record(client)["farm_id"] == "a"


def test_renewing_lengthens_our_own_time(client: redis.Redis) -> None:
    lock = FarmLock(client, lambda: "a")
    lock.take()
    client.pexpire(FARM_LOCK_KEY, 5000)
    assert lock.renew_once() == RENEW_EVERY_S
    assert int(client.pttl(FARM_LOCK_KEY)) > 5000  # type: ignore[arg-type]
    assert RENEW_EVERY_S * 4 <= FARM_LOCK_S, "some renewals may be lost"


def test_when_the_first_has_died_another_one_begins(client: redis.Redis) -> None:
    FarmLock(client, lambda: "a").take()
    expire(client)
    FarmLock(client, lambda: "b").take()
    assert record(client)["farm_id"] == "b"
    assert FARM_LOCK_S < 30, "promised are 30 s"


def test_one_that_was_followed_learns_it_at_its_next_renewal(client: redis.Redis) -> None:
    first = FarmLock(client, lambda: "a")
    first.take()
    expire(client)
    FarmLock(client, lambda: "b").take()
    with pytest.raises(FarmLocked) as followed:
        first.renew_once()
    assert followed.value.holder.farm_id == "b"


def test_after_a_release_the_next_one_begins_at_once(client: redis.Redis) -> None:
    first = FarmLock(client, lambda: "a")
    first.take()
    first.release()
    assert not client.exists(FARM_LOCK_KEY)
    FarmLock(client, lambda: "b").take()


def test_one_that_was_followed_releases_nothing_of_the_others(client: redis.Redis) -> None:
    first = FarmLock(client, lambda: "a")
    first.take()
    expire(client)
    FarmLock(client, lambda: "b").take()
    first.release()
    assert record(client)["farm_id"] == "b"


def test_a_redis_that_lost_its_data_is_taken_again(client: redis.Redis) -> None:
    lock = FarmLock(client, lambda: "a")
    lock.take()
    client.delete(FARM_LOCK_KEY)
    lock.renew_once()
    assert record(client)["farm_id"] == "a"


@pytest.mark.parametrize("text", [b"", b"{", b"null", b"3", b"[]", b"\xff"])
def test_a_record_nobody_can_read_holds_nobody_up(client: redis.Redis, text: bytes) -> None:
    client.set(FARM_LOCK_KEY, text)
    lock = FarmLock(client, lambda: "a")
    if text == b"[]":
        # An object without a farm is somebody's, as far as anyone can tell.
        with pytest.raises(FarmLocked, match="an unknown host"):
            lock.take()
        return
    lock.take()
    assert record(client)["farm_id"] == "a"


@pytest.mark.parametrize("text", [b"{", b"3", b"null"])
def test_releasing_never_raises(client: redis.Redis, text: bytes) -> None:
    client.set(FARM_LOCK_KEY, text)
    FarmLock(client, lambda: "a").release()
    client.delete(FARM_LOCK_KEY)
    FarmLock(client, lambda: "a").release()


# Without Redis


@pytest.fixture
def nowhere() -> Iterator[redis.Redis]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = connect(f"redis://:s3cret@127.0.0.1:{free.getsockname()[1]}/0")
        yield client
        client.close()


def test_without_redis_a_farm_cannot_begin(nowhere: redis.Redis) -> None:
    with pytest.raises(BrokerUnreachable) as down:
        FarmLock(nowhere, lambda: "a").take()
    assert "s3cret" not in str(down.value)


def test_redis_being_away_is_no_reason_to_give_up_and_is_said_once(
    nowhere: redis.Redis, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    lock = FarmLock(nowhere, lambda: "a")
    for _ in range(3):
        assert lock.renew_once() == RENEW_EVERY_S
    assert [logged.levelno for logged in caplog.records] == [logging.WARNING]
    lock._redis = client
    lock.renew_once()
    assert record(client)["farm_id"] == "a"
    lock._redis = nowhere
    lock.renew_once()
    assert len(caplog.records) == 2, "the next outage is told again"


def test_a_release_without_redis_is_only_said(nowhere: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    FarmLock(nowhere, lambda: "a").release()
    assert [logged.levelno for logged in caplog.records] == [logging.WARNING]
