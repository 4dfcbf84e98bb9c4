"""Which settings there are, by name: variables ``SHEEPFOLD_*`` and keys of ``sheepfold.toml``.

Every command reads its own settings and passes over those of the others, so a misspelled name would pass over in
silence. :func:`unknown_settings` tells of each. The names stand here and not in the settings classes, because the
command must not import every part of the farm to check them; a test holds the two together.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PREFIX = "SHEEPFOLD_"
FILE = Path("sheepfold.toml")

#: Keys of ``sheepfold.toml``; in the environment each has the prefix and is written in capitals.
SETTINGS = frozenset({
    # coordinator, status, cancel, node, ledger
    "archive_port", "archive_quota", "attempts", "client_version", "config_path", "coordinator_url", "dialect",
    "extras", "farm_token", "heartbeat_s", "host", "job_tags", "login", "look_ahead", "max_picture", "no_job_wait_s",
    "password", "password_file", "port", "public_url", "ram_unit", "redis_url", "render_limit_s", "retry_wait_s",
    "server_url", "sessions", "state_dir",
    # flower
    "flower_host", "flower_password", "flower_port", "flower_user",
    # worker
    "archive_host", "cache_gb", "compute", "cores", "memory_gb", "node_name", "share", "slots", "tags", "warm",
    "work_dir",
    # server
    "chunk_mb", "fault_rate", "fault_seed", "faults", "lease_grace_s", "max_broken_frames", "max_frame_bytes",
    "max_frame_errors", "max_period_s", "max_project_bytes", "max_unvalidated", "min_version", "renderers",
    "server_dir", "server_host", "server_mode", "server_open", "server_port", "session_idle_s", "test_frames",
})  # fmt: skip
#: Read from the environment alone: which Blender, the mark of our own renders, and what docker-compose.yml fills in.
VARIABLES = frozenset({"blender", "render_mark", "bind", "redis_password", "redis_port", "redis_address"})
#: How the names of the tests' own variables begin.
_TESTS = "test_"


def unknown_settings(environment: Mapping[str, str], file: Path = FILE) -> Iterator[str]:
    """One line for each variable and each key of the file that no command reads, with the nearest name that one does.

    A file that cannot be read has none; the command that needs it says what is wrong with it.
    """
    for variable in sorted(environment):
        name = _plain(variable)
        if variable.upper().startswith(PREFIX) and not name.startswith(_TESTS) and name not in SETTINGS | VARIABLES:
            yield f"{variable} is no setting and does nothing{_meant_variable(name)}"
    for key in sorted(_keys(file)):
        if key not in SETTINGS:
            yield f"{file}: {key} is no setting and does nothing{_meant_key(_plain(key))}"


def _plain(name: str) -> str:
    """The name as the file has it; the environment's case does not count."""
    return name.lower().removeprefix(PREFIX.lower())


def _meant_variable(name: str) -> str:
    close = _closest(name, SETTINGS | VARIABLES)
    return f"; did you mean {PREFIX}{close.upper()}?" if close else ""


def _meant_key(name: str) -> str:
    if name in VARIABLES:
        return f"; set {PREFIX}{name.upper()} in the environment"
    close = _closest(name, SETTINGS)
    return f"; did you mean {close}?" if close else ""


def _closest(name: str, names: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(names), n=1)), None)


def _keys(file: Path) -> Iterable[str]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
