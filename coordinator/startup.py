"""What happens before the farm runs: folders, the farm token, the passwords of people, Redis."""

from __future__ import annotations

import functools
import logging
import signal
from collections.abc import Mapping

import psutil
from pydantic import SecretStr

from coordinator.access.made_secrets import kept_secret
from coordinator.access.passwords import role_passwords
from coordinator.access.roles import Role
from coordinator.broker.embedded_redis import EmbeddedRedis
from coordinator.broker.errors import EmbeddedRedisError, FarmLocked, NoUserForEachNode, RedisMoved
from coordinator.certificates.errors import AuthorityUnusable
from coordinator.leases.errors import LedgerError
from coordinator.nodes.errors import BrokerUnreachable
from coordinator.runtime.errors import AddressInUse
from coordinator.runtime.memory_tuning import limit_malloc_arenas
from coordinator.runtime.periodic import PeriodicThread
from sheepfold.config import refuse_published
from sheepfold.errors import ExitCode
from sheepfold.serving.file_limit import raise_file_limit

from .app import CoordinatorApp
from .build import build_coordinator
from .settings import CoordinatorSettings

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
#: Nodes notice an outage after five seconds.
WATCH_EVERY_S = 1.0


def run_coordinator(settings: CoordinatorSettings) -> int:
    """Runs the coordinator until it is stopped; returns the exit code."""
    limit_malloc_arenas()
    raise_file_limit()
    refuse_published(settings.host, _secrets_in_use(settings))
    if settings.allow_plain:
        log.warning(
            "SHEEPFOLD_ALLOW_PLAIN: other machines may speak plain HTTP, and whoever is on the way reads what they say"
        )
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        farm_token = _farm_token(settings)
        passwords = role_passwords(settings, farm_token)
    except OSError as error:
        log.critical(
            "SHEEPFOLD_STATE_DIR: the folder %s cannot be used (%s): name one that this user may write to",
            settings.state_dir,
            error.strerror,
        )
        return ExitCode.WRONG_SETTING
    if settings.redis_url is not None:
        return _run(settings, settings.redis_url.get_secret_value(), farm_token, passwords)
    return _run_with_own_redis(settings, farm_token, passwords)


def _run_with_own_redis(settings: CoordinatorSettings, farm_token: str, passwords: Mapping[Role, str]) -> int:
    # Nodes on other PCs reach Redis at the address where they reach the LAN API.
    bind = (_LOOPBACK,) if settings.host in (_LOOPBACK, "localhost") else (_LOOPBACK, settings.host)
    redis = EmbeddedRedis(settings.state_dir / "redis", bind=bind)
    try:
        redis.start()
    except EmbeddedRedisError as error:
        log.critical("%s", error)
        return error.exit_code
    revive = functools.partial(_revive_once, redis)
    watch = PeriodicThread("redis", revive, fatal=RedisMoved, on_fatal=lambda error: log.critical("%s", error)).start()
    try:
        return _run(settings, redis.url, farm_token, passwords)
    finally:
        watch.stop()
        watch.join(WATCH_EVERY_S)
        redis.stop()


def _revive_once(redis: EmbeddedRedis) -> float:
    """Starts the embedded Redis again on its data if its process is gone. One that is only slow is left alone."""
    if _is_gone(redis.pid):
        log.error("the embedded Redis died; it is started again, and the farm goes on without a restart")
        before = redis.url
        redis.start()
        if redis.url != before:
            raise RedisMoved
    return WATCH_EVERY_S


def _is_gone(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _run(settings: CoordinatorSettings, redis_url: str, farm_token: str, passwords: Mapping[Role, str]) -> int:
    try:
        return _run_until_stopped(build_coordinator(settings, redis_url, farm_token, passwords))
    except (AddressInUse, AuthorityUnusable, LedgerError, FarmLocked, BrokerUnreachable, NoUserForEachNode) as error:
        log.critical("%s", error)
        return error.exit_code


def _run_until_stopped(app: CoordinatorApp) -> int:
    """Until SIGTERM, Ctrl+C or a refusal."""

    def stop(*_: object) -> None:
        app.stop()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    return app.run()


def _secrets_in_use(settings: CoordinatorSettings) -> dict[str, SecretStr | None]:
    return {
        "SHEEPFOLD_FARM_TOKEN": settings.farm_token,
        "SHEEPFOLD_REDIS_URL": settings.redis_url,
        "SHEEPFOLD_VIEWER_PASSWORD": settings.viewer_password,
        "SHEEPFOLD_OPERATOR_PASSWORD": settings.operator_password,
        "SHEEPFOLD_ADMIN_PASSWORD": settings.admin_password,
    }


def _farm_token(settings: CoordinatorSettings) -> str:
    """The shared secret of the LAN: the setting, or one made once and kept where only the owner can read it."""
    if settings.farm_token is not None:
        return settings.farm_token.get_secret_value()
    return kept_secret(settings.state_dir / "farm-token", "SHEEPFOLD_FARM_TOKEN")
