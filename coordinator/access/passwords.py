"""The passwords of people: what is set, else what the coordinator made at its first start in the state folder.

::

    STATE_DIR/viewer-password, operator-password, admin-password    each 0600, one line
"""

from __future__ import annotations

from pathlib import Path

from coordinator.settings import FarmSettings
from sheepfold.config import read_secret_file
from sheepfold.errors import BadSecretFile

from .errors import NoPassword, SamePassword
from .made_secrets import kept_secret
from .roles import PEOPLE, Role


def password_file(state_dir: Path, role: Role) -> Path:
    """Where a coordinator keeps the password that it made for a role."""
    return state_dir / f"{role}-password"


def role_passwords(settings: FarmSettings, farm_token: str) -> dict[Role, str]:
    """Each role's password; what is neither set nor there is made.

    Raises :class:`SamePassword`, :class:`~sheepfold.errors.BadSecretFile`, and ``OSError`` where none can be written.
    """
    passwords = {
        role: _set_password(settings, role) or kept_secret(password_file(settings.state_dir, role), _setting(role))
        for role in PEOPLE
    }
    seen = {farm_token: "SHEEPFOLD_FARM_TOKEN"}
    for role, password in passwords.items():
        if other := seen.get(password):
            raise SamePassword(_setting(role), other)
        seen[password] = _setting(role)
    return passwords


def known_password(settings: FarmSettings, needed: Role) -> str:
    """For a command: the password of the least role that may do what ``needed`` may, of those that are known here.

    Raises :class:`NoPassword`.
    """
    unreadable: list[str] = []
    for role in PEOPLE[PEOPLE.index(needed) :]:
        if password := _set_password(settings, role):
            return password
        try:
            return read_secret_file(password_file(settings.state_dir, role), "the state folder")
        except BadSecretFile as error:
            unreadable.append(str(error))
    raise NoPassword(needed, unreadable[0])


def _set_password(settings: FarmSettings, role: Role) -> str:
    by_role = {
        Role.VIEWER: settings.viewer_password,
        Role.OPERATOR: settings.operator_password,
        Role.ADMIN: settings.admin_password,
    }
    password = by_role[role]
    return password.get_secret_value() if password is not None else ""


def _setting(role: Role) -> str:
    return f"SHEEPFOLD_{role.upper()}_PASSWORD"
