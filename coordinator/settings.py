"""The coordinator's settings: environment ``SHEEPFOLD_*`` first, then ``sheepfold.toml`` in the working directory."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from sheepfold.config import HttpAddress, LoginSettings, SheepfoldSettings, address_parts, is_loopback
from sheepfold.protocol.dialects import DIALECTS, SPECIFICATION, Dialect, dialect_of
from sheepfold.protocol.session_messages import RamUnit


class SessionMode(StrEnum):
    """How many server sessions the farm holds under its one account."""

    #: One for all PCs of a platform.
    FARM = "farm"
    #: One per PC.
    MACHINE = "machine"


def _redis_url(secret: SecretStr) -> SecretStr:
    parts = address_parts(secret.get_secret_value())
    if parts is None or parts.scheme not in ("redis", "rediss"):
        raise ValueError(
            "must be an address such as redis://:password@host:6379/0; "
            "in the password / ? # @ are written %2F %3F %23 %40"
        )
    return secret


def _job_tags(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('must be JSON such as {"film-*": ["fast"]}: job names or numbers, and tags') from None


def _year(value: object) -> int:
    """A dialect's year, as a number or as text."""
    try:
        return dialect_of(int(str(value))).year
    except ValueError:
        raise ValueError(f"is one of {', '.join(str(dialect.year) for dialect in DIALECTS)}") from None


RedisAddress = Annotated[SecretStr, AfterValidator(_redis_url)]
JobTags = Annotated[dict[str, list[str]], NoDecode, BeforeValidator(_job_tags)]


def default_state_dir() -> Path:
    """Where state lives when nothing is set: the XDG state folder of the user who runs the coordinator."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "sheepfold"


class FarmSettings(SheepfoldSettings):
    """What every command of the coordinator's side needs to find the farm."""

    #: The coordinator's folder: ledger, spool, archives, logs, farm token, passwords, the Redis that it starts.
    state_dir: Path = Field(default_factory=default_state_dir)
    #: What a PC must know to join; shared by coordinator and workers. Unset: made once and kept in ``farm-token`` in
    #: the state folder.
    farm_token: SecretStr | None = Field(default=None, min_length=8)
    #: A file whose first line is the farm token; passed over where ``FARM_TOKEN`` is set.
    farm_token_file: Path | None = None
    #: Who signs in as ``viewer`` with it sees status, logs and metrics. Unset: made once and kept in
    #: ``viewer-password`` in the state folder.
    viewer_password: SecretStr | None = Field(default=None, min_length=12)
    #: A file whose first line is that password; passed over where ``VIEWER_PASSWORD`` is set.
    viewer_password_file: Path | None = None
    #: Who shows it may also cancel, unblock, ask the server and release PCs. Unset: made once and kept in
    #: ``operator-password`` in the state folder.
    operator_password: SecretStr | None = Field(default=None, min_length=12)
    #: A file whose first line is that password; passed over where ``OPERATOR_PASSWORD`` is set.
    operator_password_file: Path | None = None
    #: Who shows it is also told secrets, and says which PCs belong to the farm. Unset: made once and kept in
    #: ``admin-password`` in the state folder.
    admin_password: SecretStr | None = Field(default=None, min_length=12)
    #: A file whose first line is that password; passed over where ``ADMIN_PASSWORD`` is set.
    admin_password_file: Path | None = None
    #: Where a command finds the coordinator.
    coordinator_url: HttpAddress = "http://127.0.0.1:8420"
    #: The certificate of the farm's authority (``tls/ca.pem``), for commands on another machine, over https. Unset:
    #: the one in the state folder; without one, what this system believes.
    farm_ca: Path | None = None
    #: The coordinator answers plain HTTP to other machines, too, commands speak it to them, and everybody on the way
    #: may read it; without, only on this machine, and inside ``docker-compose.yml`` while ``BIND`` is a loopback
    #: address.
    allow_plain: bool = False


class CoordinatorSettings(LoginSettings, FarmSettings):
    """What ``sheepfold coordinator`` reads from the environment and ``sheepfold.toml``."""

    #: Root address of the render server.
    server_url: HttpAddress
    #: The generation of the protocol that the sign-in is written in: 2015 (the specification), 2017, 2020, 2022 or
    #: 2024. The request types of the server's answer pick the rest. A server that wants another one refuses with 101;
    #: the last line says what to try.
    dialect: Annotated[int, BeforeValidator(_year)] = SPECIFICATION.year
    #: What the server is told as the client's version; unset: that of the dialect's year (2015: ``3.3.1762``). Old ones
    #: are refused (101).
    client_version: str | None = Field(default=None, min_length=1)
    #: What the sign-in says as ``extras``; a service may ask for something there.
    extras: str | None = None
    #: Where the LAN API listens; ``0.0.0.0`` lets other PCs in.
    host: str = Field(default="127.0.0.1", min_length=1)
    #: Port of the LAN API and of the page for operators.
    port: int = Field(default=8420, ge=1, le=65535)
    #: A certificate of the studio's own (PEM, with its chain), shown to browsers; PCs go on to check the farm's.
    tls_cert: Path | None = None
    #: Its private key (PEM); both or none.
    tls_key: Path | None = None
    #: Where archives are served from; 0: any free port. Unset: three above ``PORT``, or any free one where that is
    #: taken.
    archive_port: int | None = Field(default=None, ge=0, le=65535)
    #: The coordinator's address as workers are told it; unset: the one they joined at.
    public_url: HttpAddress | None = None
    #: For example ``redis://user:password@host:6379/0``, or ``rediss://``; the coordinator alone has this login. Unset:
    #: it starts a Redis of its own.
    redis_url: RedisAddress | None = None
    #: Where workers reach Redis, if that is another address than the coordinator's: ``redis://host:6379`` or
    #: ``rediss://``. Each is given a user of its own; a login in it is not used.
    worker_redis_url: RedisAddress | None = None
    #: All workers may have the coordinator's own login at Redis where it makes no users for them: because it is older
    #: than 7, or the login in ``REDIS_URL`` may not use ``ACL``. Never refused while ``HOST`` is this machine alone.
    shared_redis_login: bool = False
    #: One session at the server for all PCs of a platform, or one per PC.
    sessions: SessionMode = SessionMode.FARM
    #: Seconds between two heartbeats of a lease, at most; half of the server's ``max-period`` is the other bound.
    heartbeat_s: float = Field(default=600, gt=0)
    #: First wait after "no job", seconds; grows with jitter. A server of ours is asked every 2 s (with many sessions:
    #: less often).
    no_job_wait_s: float = Field(default=900, gt=0)
    #: First wait when the server is down, seconds; grows with jitter, to 10 minutes.
    retry_wait_s: float = Field(default=5, gt=0)
    #: Where the server opens sessions, below its root.
    config_path: str = Field(default="/server/config.php", pattern="^/")
    #: Unit of the memory at the sign-in; unset: that of the dialect's year (2015: ``bytes``, later: ``kilobytes``).
    ram_unit: RamUnit | None = None
    #: Seconds after which a render is killed and tried elsewhere; unset: no limit.
    render_limit_s: int | None = Field(default=None, gt=0)
    #: How many nodes may fail a frame before it is reported as failed.
    attempts: int = Field(default=2, ge=1, le=20)
    #: Which PCs a job may have, as JSON: ``{"film-*": ["fast"]}`` gives jobs with such a name or number (``*`` and
    #: ``?`` stand for letters) to PCs with that word among their ``TAGS`` alone.
    job_tags: JobTags = Field(default_factory=dict)
    #: Frames each slot has ready beside the one it renders; one more where frames take less than 2 s, none where they
    #: take over a minute, until Blender says that one is nearly done. 0 turns it off.
    look_ahead: int = Field(default=1, ge=0, le=10)
    #: Bytes of archives kept on the coordinator's disk.
    archive_quota: int = Field(default=100 * 1024**3, gt=0)
    #: A picture larger than this many bytes is no frame.
    max_picture: int = Field(default=2 * 1024**3, gt=0)

    @model_validator(mode="after")
    def _need_both(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("SHEEPFOLD_TLS_CERT, SHEEPFOLD_TLS_KEY: set both, or none of them")
        return self

    def is_plain_everywhere(self) -> bool:
        """Whether other machines are answered without TLS; the containers of one machine are no other machines."""
        return self.allow_plain or is_loopback(os.environ.get("SHEEPFOLD_BIND", ""))

    def sign_in_dialect(self) -> Dialect:
        """The row that the sign-in is written in."""
        dialect = dialect_of(self.dialect)
        return dialect if self.ram_unit is None else replace(dialect, ram_unit=self.ram_unit)
