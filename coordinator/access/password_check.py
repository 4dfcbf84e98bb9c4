"""Whose password a request shows, and how fast passwords may be guessed.

Guesses are slowed for each role's login and for each address. Where a login was right before from the same address,
only guesses from there slow it down: nobody elsewhere locks a person out whose page is open. A right password forgives
nothing: whoever knows the viewer's could guess the admin's between two of it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

from sheepfold.serving.errors import TooManyGuesses
from sheepfold.serving.guesses import MOST_NAMES, GuessBrake

from .roles import PEOPLE, Role

#: The login of a bearer token: it names no role.
BEARER = ""
#: For every login that is no role's.
_NOBODY = "nobody"

V = TypeVar("V")


class PasswordCheck:
    """Knows the passwords as hashes. Not thread-safe: of the event loop.

    The farm token is known too, so that a node is told that it is none of the people; it counts as no guess.
    """

    def __init__(
        self, passwords: Mapping[Role, str], farm_token: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._digests = {role: _digest(secret.encode()) for role, secret in passwords.items()}
        self._digests[Role.NODE] = _digest(farm_token.encode())
        self._brake = GuessBrake(clock)
        #: Login and address that were right before, latest last.
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        #: Login and address → the last wrong password from there: a program that repeats it does not guess.
        self._wrong: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def role_of(self, login: str, password: bytes, address: str) -> Role | None:
        """The role whose password it is; ``login`` is that role's name, or :data:`BEARER`. ``None``: nobody's.

        Raises :class:`TooManyGuesses` where none is looked at now.
        """
        origin = (login if login in (*PEOPLE, BEARER) else _NOBODY, address)
        braked = self._braked_by(origin)
        if wait_s := max(self._brake.wait_s(name) for name in braked):
            raise TooManyGuesses("a password", wait_s)
        digest = _digest(password)
        role = self._matching(login, digest)
        if role in PEOPLE:
            _remember(self._known, origin, None)
        elif role is None and self._wrong.get(origin) != digest:
            _remember(self._wrong, origin, digest)
            for name in braked:
                self._brake.wrong(name)
        return role

    def _braked_by(self, origin: tuple[str, str]) -> tuple[str, ...]:
        login, address = origin
        if origin in self._known:
            return (f"{login} at {address}",)
        return (f"login {login}", f"address {address}")

    def _matching(self, login: str, digest: bytes) -> Role | None:
        """Compares with each, so that the time tells nothing."""
        equal = [role for role, known in self._digests.items() if hmac.compare_digest(known, digest)]
        return next((role for role in equal if login == BEARER or (login == role and role in PEOPLE)), None)


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _remember(kept: OrderedDict[tuple[str, str], V], origin: tuple[str, str], value: V) -> None:
    kept[origin] = value
    kept.move_to_end(origin)
    while len(kept) > MOST_NAMES:
        kept.popitem(last=False)
