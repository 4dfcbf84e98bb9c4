"""Settings of the lab server: ``SHEEPFOLD_*`` in the environment, then ``sheepfold.toml``."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from sheepfold.config import HttpAddress, LoginSettings

MIB = 1024 * 1024
#: Clients since 2019-09 beat this long after their last request, seconds; observed.
LAST_BEAT_S = 900
#: A heartbeat may travel and be tried again, seconds.
BEAT_MARGIN_S = 120
_PLATFORM = re.compile(r"(windows|mac|linux)/(32bit|64bit)", re.ASCII)
_VERSION = re.compile(r"\d{1,9}(\.\d{1,9}){0,7}", re.ASCII)


class Mode(StrEnum):
    """How the server treats job requests."""

    NORMAL = "normal"
    #: Every job request is answered 206.
    MAINTENANCE = "maintenance"
    #: Every job request is answered 207.
    OVERLOADED = "overloaded"


class AccountSettings(LoginSettings):
    """The account, and the server that it is at."""

    #: The account at the lab server.
    login: str = Field(min_length=1, max_length=200)
    #: Root address of the server that ``sheepfold submit`` talks to.
    server_url: HttpAddress = "http://127.0.0.1:8421"

    def secret(self) -> str:
        """The password in plain text; it goes to the wire and nowhere else."""
        return self.password.get_secret_value() if self.password is not None else ""


class ServerSettings(AccountSettings):
    """Everything `sheepfold server` can be told."""

    #: Where the lab server listens; ``0.0.0.0`` lets other machines in.
    server_host: str = "127.0.0.1"
    #: Its port; 0: any free one.
    server_port: int = Field(default=8421, ge=0, le=65535)
    #: Database, archives and pictures.
    server_dir: Path = Path("sheepfold-server")
    #: Longest pause between two heartbeats that clients are told, seconds. Clients since 2019-09 pass over it and beat
    #: 900 s after their last request; a lease (this and the grace) that is shorter takes frames from them.
    max_period_s: int = Field(default=1440, ge=1, le=86_400)
    #: A lease lives this many seconds longer than ``MAX_PERIOD_S``: a heartbeat that left in time may travel.
    lease_grace_s: int = Field(default=60, ge=0, le=3600)
    #: A session that was not used for so many seconds is over.
    session_idle_s: int = Field(default=86_400, ge=1)
    #: Oldest client version that may sign in, for example 3.3.0; unset: any.
    min_version: str = ""
    #: Broken frames after which a session is disabled.
    max_broken_frames: int = Field(default=3, ge=1)
    #: Error reports after which a frame is given up.
    max_frame_errors: int = Field(default=3, ge=1)
    #: Frames a session may hold without having uploaded them; unset: any number.
    max_unvalidated: int | None = Field(default=None, ge=1)
    #: Archives larger than this are offered in pieces of it to clients since 2024, MiB.
    chunk_mb: int = Field(default=64, ge=1, le=1_048_576)
    #: Test frames that each new session renders before anything else; 0: none.
    test_frames: int = Field(default=0, ge=0, le=19)
    #: Renderer archives by platform: ``linux/64bit=/path/blender.zip``, several separated by commas.
    renderers: Annotated[dict[str, Path], NoDecode] = Field(default_factory=dict)
    #: A picture larger than this many bytes is refused.
    max_frame_bytes: int = Field(default=512 * MIB, ge=1024)
    #: A project larger than this many bytes is refused.
    max_project_bytes: int = Field(default=16 * 1024 * MIB, ge=1024)
    #: How job requests are answered: ``maintenance`` with 206, ``overloaded`` with 207.
    server_mode: Mode = Mode.NORMAL
    #: Anyone may look at projects and pictures; unset: only where the server listens on loopback.
    server_open: bool | None = None
    #: Scripted faults may be posted; for tests only.
    faults: bool = False
    #: This share of all answers fails, 0 to 1.
    fault_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    #: The same seed makes the same answers fail.
    fault_seed: int = 0

    @field_validator("renderers", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return dict(_renderer(part) for part in value.split(",") if part.strip())

    @field_validator("min_version")
    @classmethod
    def _dotted(cls, value: str) -> str:
        if value and not _VERSION.fullmatch(value):
            raise ValueError("has to be numbers with dots, for example 3.3.1762")
        return value

    @property
    def lease_s(self) -> int:
        """Seconds a lease lives without a heartbeat."""
        return self.max_period_s + self.lease_grace_s

    def cautions(self) -> tuple[str, ...]:
        """What is allowed but may surprise, one line each."""
        if self.lease_s >= LAST_BEAT_S + BEAT_MARGIN_S:
            return ()
        return (
            f"SHEEPFOLD_MAX_PERIOD_S, SHEEPFOLD_LEASE_GRACE_S: a frame is taken back after {self.lease_s} s without a "
            f"heartbeat; clients since 2019-09 beat every {LAST_BEAT_S} s whatever they are told, and may lose theirs "
            f"(sheepfold's own beat in time)",
        )

    @property
    def open_to_look(self) -> bool:
        """Whether pages and pictures can be seen without a password; by default only on this machine."""
        if self.server_open is not None:
            return self.server_open
        return self.server_host in ("127.0.0.1", "::1", "localhost")


def _renderer(part: str) -> tuple[str, Path]:
    platform, equals, path = part.strip().partition("=")
    if not equals or not _PLATFORM.fullmatch(platform) or not path:
        raise ValueError("has to look like linux/64bit=/path/blender.zip")
    return platform, Path(path)


def parse_renderers(parts: list[str]) -> dict[str, Path]:
    """The ``--renderer`` options of the command line; raises ``ValueError`` with a text for a person."""
    return dict(_renderer(part) for part in parts)
