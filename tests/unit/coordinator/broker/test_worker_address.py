from __future__ import annotations

import pytest

from coordinator.broker.worker_address import WorkerAddress

LOCAL = "redis://coordinator:s3cret@127.0.0.1:6390/0"


@pytest.mark.parametrize(
    ("redis_url", "reached_by", "told"),
    [
        ("redis://:pw@127.0.0.1:6390/0", "farm.lan", "redis://n1:own@farm.lan:6390/0"),
        ("redis://:pw@localhost/2", "10.0.0.7", "redis://n1:own@10.0.0.7:6379/2"),
        ("redis://user:pw@[::1]:6390/0", "fd00::7", "redis://n1:own@[fd00::7]:6390/0"),
        ("redis://127.0.0.1:6390", "farm.lan", "redis://n1:own@farm.lan:6390"),
        (
            "rediss://:pw@LOCALHOST:6390/0?ssl_ca_certs=/ca.pem",
            "farm.lan",
            "rediss://n1:own@farm.lan:6390/0?ssl_ca_certs=/ca.pem",
        ),
        # Whoever is on this machine too may use the loopback address.
        ("redis://:pw@127.0.0.1:6390/0", "127.0.0.1", "redis://n1:own@127.0.0.1:6390/0"),
        # An address that is not loopback is everybody's.
        ("redis://:pw@redis.lan:6379/0", "farm.lan", "redis://n1:own@redis.lan:6379/0"),
        ("redis://:pw@[fd00::9]:6379/0", "farm.lan", "redis://n1:own@[fd00::9]:6379/0"),
    ],
)
def test_a_worker_finds_redis_where_it_found_the_coordinator(redis_url: str, reached_by: str, told: str) -> None:
    assert WorkerAddress(redis_url, None, None).url_for(reached_by, "n1", "own") == told


@pytest.mark.parametrize(
    ("public_url", "host"),
    [("http://farm.lan:8420", "farm.lan"), ("https://[fd00::1]:8420", "[fd00::1]"), ("https://farm.lan", "farm.lan")],
)
def test_the_public_address_wins_over_the_one_a_worker_happened_to_use(public_url: str, host: str) -> None:
    assert WorkerAddress(LOCAL, None, public_url).url_for("10.0.0.7", "n1", "own") == f"redis://n1:own@{host}:6390/0"


@pytest.mark.parametrize(
    ("worker_url", "told"),
    [
        ("redis://10.0.0.5:7000", "redis://n1:own@10.0.0.5:7000/3"),
        ("rediss://farm.lan", "rediss://n1:own@farm.lan:6379/3"),
        ("redis://who:cares@10.0.0.5:7000/9", "redis://n1:own@10.0.0.5:7000/3"),
        ("redis://127.0.0.1:7000", "redis://n1:own@127.0.0.1:7000/3"),
    ],
)
def test_workers_may_be_told_another_address_of_the_same_database(worker_url: str, told: str) -> None:
    address = WorkerAddress("redis://:pw@10.9.9.9:6390/3", worker_url, "http://farm.lan:8420")
    assert address.url_for("10.0.0.7", "n1", "own") == told
    assert address.database == 3


@pytest.mark.parametrize("url", ["redis://h", "redis://h/", "redis://h/0", "redis://h/0?x=1"])
def test_the_database_is_the_first_unless_named(url: str) -> None:
    assert WorkerAddress(url, None, None).database == 0


def test_user_and_password_are_written_as_urls_want_them() -> None:
    assert WorkerAddress(LOCAL, None, None).url_for("h", "n@1", "p/w:d") == "redis://n%401:p%2Fw%3Ad@h:6390/0"


@pytest.mark.parametrize("login", ["", ":p%40ss%2Fw%3Ard%23%3F@", ":p@ss@", "user:pw@"])
def test_a_login_that_is_shared_stays_as_it_was_written(login: str) -> None:
    address = WorkerAddress(f"redis://{login}127.0.0.1:1/0", None, None)
    assert address.shared_url_for("h") == f"redis://{login}h:1/0"
