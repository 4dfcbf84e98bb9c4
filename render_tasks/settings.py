"""The worker's settings: environment ``SHEEPFOLD_*``, then ``sheepfold.toml`` in the working directory."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from sheepfold.config import MAX_SECRET_CHARS, HttpAddress, SheepfoldSettings, read_secret_file
from sheepfold.contract.errors import MalformedContract
from sheepfold.contract.invitations import Invitation
from sheepfold.contract.presence import Compute

from .membership import kept_membership


class SandboxChoice(StrEnum):
    """What an operator asks for; the levels are in :mod:`render_tasks.blender.sandbox.levels`."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    OFF = "off"


def default_node_name() -> str:
    """This PC's host name, without its domain."""
    return platform.node().split(".")[0] or "pc"


def default_work_dir() -> Path:
    """Where this system keeps a user's caches; one worker per folder."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "sheepfold" / "worker"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "sheepfold" / "worker"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sheepfold" / "worker"


def _read_token(path: Path) -> str:
    if path == _STANDARD_INPUT:
        return sys.stdin.readline(MAX_SECRET_CHARS)
    return read_secret_file(path, "SHEEPFOLD_FARM_TOKEN_FILE")


def _some_token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("must be the farm token that the coordinator was given, in plain ASCII")
    return SecretStr(text)


def _invitation(line: object) -> str | None:
    try:
        return Invitation.from_line(str(line)).line if line else None
    except MalformedContract as error:
        raise ValueError(str(error)) from None


def _words(value: object) -> object:
    """``"gpu, fast"`` as an environment has it; each word once, in the order given. A file may hold a list."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        return words
    listed = cast("Iterable[object]", words)
    stripped = [word.strip() if isinstance(word, str) else word for word in listed]
    return tuple(dict.fromkeys(word for word in stripped if word))


def _paths(value: object) -> object:
    """``/srv/ocio:/srv/fonts`` as an environment has it. A file may hold a list."""
    return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


_STANDARD_INPUT = Path("-")
#: A word that a job may ask for.
_Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class WorkDirSettings(SheepfoldSettings):
    """Where a worker keeps its files, for commands that need nothing else of it."""

    #: Archives, scratch folders and pictures not delivered yet; one worker for each folder.
    work_dir: Path = Field(default_factory=default_work_dir)


class WorkerSettings(WorkDirSettings):
    """What a person decides about one PC."""

    # An empty SHEEPFOLD_TAGS takes the file's tags away.
    model_config = SettingsConfigDict(env_ignore_empty=False)

    #: The line that ``sheepfold node invite`` printed on the coordinator: with it nothing else is needed. It is used
    #: once; what it gave is kept in ``WORK_DIR``.
    join: Annotated[str | None, BeforeValidator(_invitation)] = None
    #: Root address of the coordinator, for example ``http://127.0.0.1:8420``; not needed by who joined by invitation.
    coordinator_url: HttpAddress
    #: As on the coordinator; this or ``FARM_TOKEN_FILE``. On the coordinator's machine and where plain HTTP is allowed
    #: a PC joins with it alone; elsewhere by ``JOIN``.
    farm_token: Annotated[SecretStr, AfterValidator(_some_token)] | None
    #: Plain HTTP to another machine is allowed, and everybody on the way may read the farm token.
    allow_plain: bool = False
    #: A file whose first line is the farm token; ``-`` is standard input. Passed over where ``FARM_TOKEN`` is set.
    farm_token_file: Path | None = None
    #: What people call this PC; a second PC of that name becomes ``name-02``.
    node_name: Annotated[
        str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    ] = Field(default_factory=default_node_name)
    #: Frames rendered side by side.
    slots: Annotated[int, Field(ge=1, le=256)] = 1
    #: What the farm may use of this PC.
    compute: Compute = Compute.CPU
    #: Threads of one slot's render; unset: all threads divided by the slots.
    cores: Annotated[int, Field(ge=1, le=4096)] | None = None
    #: Most gigabytes (1024³ bytes) that one slot's render may hold, its whole process tree counted; over it the render
    #: is ended and tried elsewhere. Unset: no limit of ours.
    memory_gb: Annotated[float, Field(gt=0, le=1024**2)] | None = None
    #: Most gigabytes that one render's files may take of this PC's disk; over it the render is ended.
    scratch_gb: Annotated[float, Field(gt=0, le=1024**2)] = 32.0
    #: What keeps renderers from this PC's files and network: ``required`` takes the best there is (bubblewrap, else
    #: Landlock) and renders nothing without; ``preferred`` renders even so; ``bubblewrap`` or ``landlock`` is this one
    #: and no other; ``off`` is none.
    sandbox: SandboxChoice = SandboxChoice.REQUIRED
    #: Folders that renderers may read besides the system's, the scene and Blender's own (``/srv/ocio:/srv/fonts``).
    sandbox_reads: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_paths)] = ()
    #: The worker may run as root, whose files and processes a renderer would otherwise never reach.
    allow_root: bool = False
    #: Words that say which jobs this PC is for, separated by commas (``fast,gpu-24g``); a job may ask for some.
    tags: Annotated[tuple[_Tag, ...], NoDecode, BeforeValidator(_words), Field(max_length=32)] = ()
    #: One Blender stays open per slot and renders frame after frame; ``false``: one process per frame.
    warm: bool = True
    #: Gigabytes of archives kept: unpacked, and the zips that other PCs are served from; zips go first, then what was
    #: used least lately.
    cache_gb: Annotated[float, Field(gt=0)] = 40.0
    #: Archives that were fetched are served to other PCs of the LAN; ``false``: this PC only takes.
    share: bool = True
    #: The address on which archives are served; unset: every interface.
    archive_host: str = ""
    #: The port on which archives are served; 0: any free one.
    archive_port: Annotated[int, Field(ge=0, le=65535)] = 0

    @model_validator(mode="before")
    @classmethod
    def _token_from_file(cls, values: dict[str, object]) -> dict[str, object]:
        path = values.get("farm_token_file")
        if values.get("farm_token") or not path:
            return values
        return values | {"farm_token": _read_token(Path(str(path)))}

    @property
    def token(self) -> str:
        """The farm token; empty for a PC that joined by invitation."""
        return self.farm_token.get_secret_value() if self.farm_token else ""

    @model_validator(mode="before")
    @classmethod
    def _farm_of_invitation(cls, values: dict[str, object]) -> dict[str, object]:
        """Whoever is invited, or was, needs neither address nor token."""
        if values.get("join"):
            with contextlib.suppress(MalformedContract):  # told by the field itself
                url = Invitation.from_line(str(values["join"])).url
                return values | {"coordinator_url": url, "farm_token": None}
            return {"coordinator_url": "http://127.0.0.1", "farm_token": None} | values
        kept = kept_membership(Path(str(values.get("work_dir") or default_work_dir())))
        if kept is None or values.get("coordinator_url") not in (None, "", kept.coordinator_url):
            return values
        return {"farm_token": None} | values | {"coordinator_url": kept.coordinator_url}


def cores_of_a_slot(asked: int | None, slots: int, usable: int, present: int) -> int | None:
    """Threads one renderer may use; ``None`` where it may use all it finds and finds no more than it may use."""
    if asked:
        return asked
    return max(1, usable // slots) if slots > 1 or usable < present else None
