"""What opens a session: the account, the machine, and where everything else is asked for. Frozen values.

The table of all exchanges stands in ``messages.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from .status import SignInStatus


class RamUnit(StrEnum):
    """The specification says bytes; observed clients sent kilobytes."""

    BYTES = "bytes"
    KILOBYTES = "kilobytes"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An account. The password never shows in ``repr``; a server's public key stands in its place where it gave one."""

    login: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The one machine a session describes."""

    os: str
    #: ``"32bit"`` or ``"64bit"``.
    bits: str
    cpu_family: str
    cpu_model: str
    cpu_model_name: str
    #: Cores or threads available.
    cpu_cores: int
    #: Memory in bytes, whatever unit the wire uses.
    ram: int
    #: Name and release of the operating system, as later generations tell it; empty: not told.
    os_version: str = ""


@dataclass(frozen=True, kw_only=True)
class SignInRequest:
    """Session creation: who signs in, with which client, on which machine."""

    credentials: Credentials
    #: Client's version, for example ``3.3.1762``; empty where a client gave none.
    version: str
    hardware: Hardware
    extras: str | None = None
    #: Name of the PC; told since 2015-03.
    hostname: str = ""
    #: What tells this PC from others, 32 hex digits; told since 2022-01.
    hardware_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Where each exchange of a session lives. Paths are as the server wrote them: absolute, relative or whole URLs.

    An empty one is an exchange this server has not: which are missing depends on its generation.
    """

    request_job: str
    keepmealive: str
    #: Gone since 2020-04, when each offer began to say where its frame goes.
    validate_job: str = ""
    #: Gone since 2024-03, when these two took its place.
    download_archive: str = ""
    download_binary: str = ""
    download_chunk: str = ""
    error: str = ""
    logout: str = ""
    speedtest_answer: str = ""
    #: Seconds a server waits between two heartbeats; ``None`` where it gave no usable ``max-period``.
    max_period_s: int | None = None
    #: Where a server of ours takes a :class:`ProjectStep`; empty at any other, and for accounts that may not.
    project: str = ""
    #: The server reads ``confirmed`` (:attr:`FrameUpload.is_confirmed`); only ours says so.
    reads_confirmed: bool = False


@dataclass(frozen=True, kw_only=True)
class SignInAnswer:
    """A session's endpoints, or the reason why there is none."""

    status: SignInStatus | int
    #: Present exactly when ``status`` is 0.
    endpoints: Endpoints | None = None
    #: Signs in as the password does; ``None`` where the server gave none (before 2019-08).
    public_key: str | None = field(default=None, repr=False)
    #: Addresses whose speed the server would like to know; since 2021-11.
    speed_test_targets: tuple[str, ...] = ()
    #: Request types that are not among :class:`Endpoints`, for a person: what such a server speaks.
    unknown_requests: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SpeedTestResult:
    """What one address of a speed test gave."""

    url: str
    #: Bytes a second; 0 where nothing came.
    speed: int
    #: Milliseconds until the first byte.
    ping_ms: int
