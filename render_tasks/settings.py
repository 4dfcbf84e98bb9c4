"""The worker's settings: environment ``SHEEPFOLD_*``, then ``sheepfold.toml`` in the working directory."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, cast

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints
from pydantic_settings import NoDecode, SettingsConfigDict

from sheepfold.config import HttpAddress, SheepfoldSettings
from sheepfold.contract.presence import Compute


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


def _some_token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("must be the farm token that the coordinator was given, in plain ASCII")
    return SecretStr(text)


def _words(value: object) -> object:
    """``"gpu, fast"`` as an environment has it; each word once, in the order given. A file may hold a list."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        return words
    listed = cast("Iterable[object]", words)
    stripped = [word.strip() if isinstance(word, str) else word for word in listed]
    return tuple(dict.fromkeys(word for word in stripped if word))


#: A word that a job may ask for.
_Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class WorkerSettings(SheepfoldSettings):
    """What a person decides about one PC."""

    # An empty SHEEPFOLD_TAGS takes the file's tags away.
    model_config = SettingsConfigDict(env_ignore_empty=False)

    #: Root address of the coordinator, for example ``http://coordinator:8420``.
    coordinator_url: HttpAddress
    #: As on the coordinator.
    farm_token: Annotated[SecretStr, AfterValidator(_some_token)]
    #: What people call this PC; a second PC of that name becomes ``name-02``.
    node_name: Annotated[
        str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    ] = Field(default_factory=default_node_name)
    #: Archives, scratch folders and pictures not delivered yet; one worker for each folder.
    work_dir: Path = Field(default_factory=default_work_dir)
    #: Frames rendered side by side.
    slots: Annotated[int, Field(ge=1, le=256)] = 1
    #: What the farm may use of this PC.
    compute: Compute = Compute.CPU
    #: Threads of one slot's render; unset: all threads divided by the slots.
    cores: Annotated[int, Field(ge=1, le=4096)] | None = None
    #: Most gigabytes (1024³ bytes) that one slot's render may hold, its whole process tree counted; over it the render
    #: is ended and tried elsewhere. Unset: no limit of ours.
    memory_gb: Annotated[float, Field(gt=0, le=1024**2)] | None = None
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


def cores_of_a_slot(asked: int | None, slots: int, usable: int, present: int) -> int | None:
    """Threads one renderer may use; ``None`` where it may use all it finds and finds no more than it may use."""
    if asked:
        return asked
    return max(1, usable // slots) if slots > 1 or usable < present else None
