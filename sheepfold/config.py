"""How settings are read, and which there are: variables ``SHEEPFOLD_*``, then keys of ``sheepfold.toml``.

:class:`SheepfoldSettings` is the root of every settings class, :data:`HttpAddress` the rule for an address,
:func:`read_secret_file` the rule for a file that holds a password. A secret ``NAME`` that is not set is read from the
file that ``NAME_FILE`` names, where there is such a setting, else from the file of its name in the folder of systemd's
credentials (``viewer-password`` for ``VIEWER_PASSWORD``).

Every command reads its own settings and passes over those of the others, so a misspelled name would pass over in
silence. :func:`unknown_settings` tells of each. The names stand here and not in the settings classes, because the
command must not import every part of the farm to check them; a test holds the two together.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Self, get_args
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from .errors import BadSecretFile, PublishedSecret

PREFIX = "SHEEPFOLD_"
#: In the working directory.
FILE = Path("sheepfold.toml")
#: A first line that is longer than this is no password but another file.
MAX_SECRET_CHARS = 4096

#: Secrets that stand in ``.env``, in ``docker-compose.yml`` or in the documentation: everybody knows them.
PUBLISHED_SECRETS = frozenset({
    "lab-farm-token", "lab-redis-password", "lab-server-password", "lab-flower-password",
    "lab-viewer-password", "lab-operator-password", "lab-admin-password",
    "a-long-secret-of-your-own", "a-password-for-the-lab",
})  # fmt: skip

#: Keys of ``sheepfold.toml``; in the environment each has the prefix and is written in capitals.
SETTINGS = frozenset({
    # coordinator, status, cancel, node, ledger
    "admin_password", "admin_password_file", "allow_plain", "archive_port", "archive_quota", "attempts",
    "client_version", "config_path", "coordinator_url", "dialect", "extras", "farm_ca", "farm_token",
    "farm_token_file",
    "heartbeat_s", "host", "job_tags", "login", "look_ahead", "max_picture", "no_job_wait_s", "operator_password",
    "operator_password_file", "password", "password_file", "port", "public_url", "ram_unit", "redis_url",
    "render_limit_s", "retry_wait_s", "server_url", "sessions", "shared_redis_login", "state_dir", "tls_cert",
    "tls_key", "viewer_password", "viewer_password_file", "worker_redis_url",
    # flower
    "flower_host", "flower_password", "flower_password_file", "flower_port", "flower_user",
    # worker
    "allow_root", "archive_host", "cache_gb", "compute", "cores", "join", "memory_gb", "node_name",
    "sandbox", "sandbox_reads", "scratch_gb", "share", "slots", "tags", "warm", "work_dir",
    # server
    "chunk_mb", "fault_rate", "fault_seed", "faults", "lease_grace_s", "max_broken_frames", "max_frame_bytes",
    "max_frame_errors", "max_period_s", "max_project_bytes", "max_unvalidated", "min_version", "renderers",
    "server_dir", "server_host", "server_mode", "server_open", "server_port", "session_idle_s", "test_frames",
})  # fmt: skip
#: Read from the environment alone, each with its meaning.
VARIABLES = {
    "blender": "Path of the Blender to use; unset: the one on PATH.",
    "render_mark": "Set by a worker for its renderers, so that they can be found and ended.",
    "bind": "In ``docker-compose.yml``: the address of this machine on which ports are opened; 127.0.0.1 unless set.",
    "mem_limit": "In ``docker-compose.yml``: most memory of one worker's container; 16g unless set.",
    "python_image": "In ``docker-compose.yml``: what our image is made from; with a digest nobody exchanges it.",
    "redis_image": "In ``docker-compose.yml``: the image of Redis; with a digest nobody exchanges it.",
    "redis_password": "In ``docker-compose.yml``: the password of the farm's Redis.",
    "redis_port": "In ``docker-compose.yml``: the port of Redis on this machine; 8422 unless set.",
}
_NAMES = SETTINGS | VARIABLES.keys()
#: How the names of the tests' own variables begin.
_TESTS = "test_"


def address_parts(text: str) -> SplitResult | None:
    """An address in its parts; ``None`` where it has no host or no port that could be one."""
    try:
        parts = urlsplit(text)
        return parts if parts.hostname and (parts.port is None or parts.port > 0) else None
    except ValueError:
        return None


def _http_address(text: str) -> str:
    parts = address_parts(text)
    if parts is None or parts.scheme not in ("http", "https"):
        raise ValueError("must be an address such as https://render.example.org or http://192.168.1.10:8420")
    if parts.username or parts.password:
        raise ValueError("must not hold a login; use SHEEPFOLD_LOGIN and SHEEPFOLD_PASSWORD")
    return text.rstrip("/")


#: Root of an HTTP server; kept without a slash at its end.
HttpAddress = Annotated[str, AfterValidator(_http_address)]


def read_secret_file(path: Path, setting: str) -> str:
    """The first line of a file, without its end and without a byte order mark.

    Raises :class:`BadSecretFile`; its line begins with ``setting``, the variable that the file stands for.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            secret = file.readline(MAX_SECRET_CHARS + 1).rstrip("\r\n")
    except OSError as error:
        raise BadSecretFile(f"{setting}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadSecretFile(f"{setting}: {path} is no text in UTF-8: save it as such") from None
    if not secret:
        raise BadSecretFile(f"{setting}: the first line of {path} is empty: write the password there")
    if len(secret) > MAX_SECRET_CHARS:
        raise BadSecretFile(f"{setting}: the first line of {path} is too long for a password: is it another file?")
    return secret


def is_loopback(host: str) -> bool:
    """Whether what listens there is reached from this machine alone; a name that is not ``localhost`` counts as no."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_published(host: str, secrets: Mapping[str, SecretStr | str | None]) -> None:
    """Raises :class:`PublishedSecret` where something that listens on ``host`` is kept by a secret that is none.

    ``secrets``: setting → its value. In a container the address that counts is the one at which its ports are opened.
    """
    reached_at = os.environ.get("SHEEPFOLD_BIND") or host
    if is_loopback(reached_at):
        return
    for setting, secret in secrets.items():
        text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret or ""
        # An address holds its password.
        if text in PUBLISHED_SECRETS or (unquote(urlsplit(text).password or "") in PUBLISHED_SECRETS):
            raise PublishedSecret(setting, reached_at)


def secret_from_file(named: object, name: str) -> str | None:
    """A secret that is not set: from the file that ``NAME_FILE`` names, else from systemd's; ``None``: from neither.

    ``name`` is the setting's, as in ``sheepfold.toml``. Raises :class:`BadSecretFile`.
    """
    if named:
        return read_secret_file(Path(str(named)), f"{PREFIX}{name.upper()}_FILE")
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(folder) / name.replace("_", "-") if folder else None
    if credential is None or not credential.exists():
        return None
    return read_secret_file(credential, f"{PREFIX}{name.upper()}")


def _is_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_is_secret(part) for part in get_args(annotation))


class SheepfoldSettings(BaseSettings):
    """Read from the environment first, then from ``sheepfold.toml``; an empty variable counts as none."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, toml_file=FILE, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: dict[str, object]) -> dict[str, object]:
        unset = (
            name for name, field in cls.model_fields.items() if _is_secret(field.annotation) and not values.get(name)
        )
        read = {name: secret_from_file(values.get(f"{name}_file"), name) for name in unset}
        return values | {name: secret for name, secret in read.items() if secret is not None}


class LoginSettings(SheepfoldSettings):
    """The account at the render server."""

    #: The account at the server.
    login: str = Field(min_length=1)
    #: Its password; this or ``PASSWORD_FILE``.
    password: SecretStr | None = Field(default=None, min_length=1)
    #: A file whose first line is the password; passed over where ``PASSWORD`` is set.
    password_file: Path | None = None

    @model_validator(mode="after")
    def _need_password(self) -> Self:
        if self.password is None:
            raise ValueError("SHEEPFOLD_PASSWORD: set it, or SHEEPFOLD_PASSWORD_FILE to a file that holds it")
        return self


def unknown_settings(environment: Mapping[str, str], file: Path = FILE) -> Iterator[str]:
    """One line for each variable and each key of the file that no command reads, with the nearest name that one does.

    A file that cannot be read has none; the command that needs it says what is wrong with it.
    """
    for variable in sorted(environment):
        name = _plain(variable)
        if variable.upper().startswith(PREFIX) and not name.startswith(_TESTS) and name not in _NAMES:
            yield f"{variable} is no setting and does nothing{_meant_variable(name)}"
    for key in sorted(_keys(file)):
        if key not in SETTINGS:
            yield f"{file}: {key} is no setting and does nothing{_meant_key(_plain(key))}"


def _plain(name: str) -> str:
    """The name as the file has it; the environment's case does not count."""
    return name.lower().removeprefix(PREFIX.lower())


def _meant_variable(name: str) -> str:
    close = _closest(name, _NAMES)
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
