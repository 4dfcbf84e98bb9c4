"""The coordinator's settings: environment ``SHEEPFOLD_*`` first, then ``sheepfold.toml`` in the working directory."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from sheepfold.config import HttpAddress, LoginSettings, SheepfoldSettings, address_parts
from sheepfold.protocol.dialects import DIALECTS, SPECIFICATION, Dialect, dialect_of
from sheepfold.protocol.messages import RamUnit


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

    state_dir: Path = Field(default_factory=default_state_dir)
    #: Shared by every node; generated into the state folder when unset.
    farm_token: SecretStr | None = Field(default=None, min_length=8)
    #: Where a worker or ``sheepfold status`` finds the depot.
    coordinator_url: HttpAddress = "http://127.0.0.1:8420"
    #: Unset: the coordinator starts a Redis of its own.
    redis_url: RedisAddress | None = None


class CoordinatorSettings(LoginSettings, FarmSettings):
    """What ``sheepfold coordinator`` reads."""

    server_url: HttpAddress
    #: The year of the generation that the sign-in is written in; the server's answer picks the rest.
    dialect: Annotated[int, BeforeValidator(_year)] = SPECIFICATION.year
    #: What the server is told as the client's version; unset: that of the dialect's year. Old ones are refused (101).
    client_version: str | None = Field(default=None, min_length=1)
    #: What the sign-in says as ``extras``; a service may ask for something there.
    extras: str | None = None
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8420, ge=1, le=65535)
    #: Where archives are handed out; unset: three above ``port``, or any free one where that is taken.
    archive_port: int | None = Field(default=None, ge=0, le=65535)
    #: What workers are told; unset: the address they joined at.
    public_url: HttpAddress | None = None
    sessions: SessionMode = SessionMode.FARM
    #: Upper bound of the seconds between two heartbeats of a lease; half of the server's ``max-period`` is another.
    heartbeat_s: float = Field(default=600, gt=0)
    #: First wait after "no job", seconds; grows with jitter.
    no_job_wait_s: float = Field(default=900, gt=0)
    #: First wait when the server is down, seconds; grows with jitter.
    retry_wait_s: float = Field(default=5, gt=0)
    config_path: str = Field(default="/server/config.php", pattern="^/")
    #: Unit of the memory at the sign-in; unset: that of the dialect's year.
    ram_unit: RamUnit | None = None
    #: Seconds after which a render is killed and tried elsewhere; unset: no limit.
    render_limit_s: int | None = Field(default=None, gt=0)
    #: How many nodes may fail a frame before it is reported as failed.
    attempts: int = Field(default=2, ge=1, le=20)
    #: Job name or number (``*`` and ``?`` stand for letters) → words that a PC must have among its tags to get it.
    job_tags: JobTags = Field(default_factory=dict)
    #: Frames each slot holds ready beside the one it renders; short frames get one more, slow ones none.
    look_ahead: int = Field(default=1, ge=0, le=10)
    #: Bytes of archives kept on the coordinator's disk.
    archive_quota: int = Field(default=100 * 1024**3, gt=0)
    #: A picture larger than this many bytes is no frame.
    max_picture: int = Field(default=2 * 1024**3, gt=0)

    def sign_in_dialect(self) -> Dialect:
        """The row that the sign-in is written in."""
        dialect = dialect_of(self.dialect)
        return dialect if self.ram_unit is None else replace(dialect, ram_unit=self.ram_unit)
