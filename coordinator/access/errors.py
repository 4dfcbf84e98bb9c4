"""Why nobody can be told from nobody else.

::

    AccessError
    ├── NoPassword     a command has no password of the role that it needs
    └── SamePassword   two of the farm's secrets are the same: a setting is wrong
"""

from __future__ import annotations

from sheepfold.errors import ExitCode, SheepfoldError

from .roles import Role


class AccessError(SheepfoldError):
    """The farm's passwords cannot be used."""

    exit_code = ExitCode.WRONG_SETTING


class NoPassword(AccessError):
    """A command has no password of a role that may do what it asks for."""

    def __init__(self, needed: Role, why: str) -> None:
        self.needed = needed
        super().__init__(
            f"SHEEPFOLD_{needed.upper()}_PASSWORD: this needs the role {needed}, and {why}; set it, or "
            f"SHEEPFOLD_{needed.upper()}_PASSWORD_FILE, or SHEEPFOLD_STATE_DIR to the coordinator's folder"
        )


class SamePassword(AccessError):
    """Two of the farm's secrets are the same, so that one opens what the other should."""

    def __init__(self, setting: str, other: str) -> None:
        self.setting, self.other = setting, other
        super().__init__(f"{setting}: it is the same as {other}; each needs one of its own")
